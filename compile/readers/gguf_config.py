"""`edge_router.catalog.gguf.config` under the name by which it has been imported so far."""

from edge_router.catalog.gguf.config import GgufConfig

__all__ = ["GgufConfig"]
