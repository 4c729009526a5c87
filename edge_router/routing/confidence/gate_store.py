"""Where a gate is kept: in the artifact store, under the key of the weights that it was fitted for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge_router.routing.confidence.gate import Gate
from edge_router.store import ArtifactStore
from edge_router.system.paths import Paths

KIND, FILE = "confidence", "gate.json"


def find(paths: Paths, weights: str) -> Gate | None:
    """None where nothing has been calibrated. Raises `InvalidData`."""
    folder = ArtifactStore(paths.artifacts).find(KIND, weights)
    return None if folder is None else Gate.read(folder / FILE)


def keep(gate: Gate, paths: Paths, weights: str, inputs: Mapping[str, object]) -> Path:
    """In place of what was calibrated before; the file. `inputs`: what it was fitted on, and "model".

    Raises `StorageError`.
    """
    store = ArtifactStore(paths.artifacts)
    store.plan_removal(kind=KIND, keys=[weights]).execute()

    def write(folder: Path) -> None:
        (folder / FILE).write_text(gate.to_json(), encoding="utf-8")

    return store.obtain(KIND, weights, write, inputs=inputs) / FILE
