"""edge_router: a small compiled model answers here; only the hard queries go to a strong one."""

__version__ = "0.1.0"
