"""Where the steps of a build work: the store, whom they report to, and whether anything may be made."""

from __future__ import annotations

from edge_router.compile.fingerprint import Inputs, why
from edge_router.device import Host, host
from edge_router.errors import ArtifactMissing
from edge_router.store import ArtifactStore, changed_inputs
from edge_router.system.paths import Paths
from edge_router.types import Progress


class Workshop:
    """Of one build of the model named `model`."""

    def __init__(self, model: str, paths: Paths, progress: Progress, *, build: bool, offline: bool) -> None:
        self.paths, self.progress = paths, progress
        self.build, self.offline = build, offline or not build
        self.store = ArtifactStore(paths.artifacts, progress=progress)
        self._model = model

    def host(self) -> Host:
        return host(self.paths.artifacts / "host.json")

    def may_build(self, kind: str, inputs: Inputs) -> None:
        """Raises `ArtifactMissing` if not; else says why, where something older was there."""
        if not self.build:
            raise ArtifactMissing(self._model, kind)
        nearest = self.store.nearest(kind, inputs)
        if nearest is not None:
            reason = why(changed_inputs(nearest.inputs, inputs), nearest.inputs, inputs)
            self.progress.note(f"the {kind} of {self._model}: making another, for this changed: {reason}")
