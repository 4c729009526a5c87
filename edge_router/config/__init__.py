"""The settings: what each section holds, where a value came from, and what is refused."""

from edge_router.config.settings import Config

__all__ = ["Config"]
