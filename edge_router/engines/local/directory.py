"""`edge_router.prompts.directory` under the name by which it has been imported so far."""

from edge_router.prompts.directory import ModelDirectory

__all__ = ["ModelDirectory"]
