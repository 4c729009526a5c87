"""Data: model cards and routers, read through edge_router.catalog."""
