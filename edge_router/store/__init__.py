"""The content-keyed artifact store: what was built is found by the fingerprint of everything that went in."""

from __future__ import annotations

from edge_router.store.artifacts import ArtifactStore
from edge_router.store.manifest import ArtifactRecord, Damage, changed_inputs
from edge_router.store.removal import Inventory, RemovalPlan, Removed

__all__ = [
    "ArtifactRecord",
    "ArtifactStore",
    "Damage",
    "Inventory",
    "RemovalPlan",
    "Removed",
    "changed_inputs",
]
