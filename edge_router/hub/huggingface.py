"""Weights from the Hugging Face hub, through huggingface_hub: its tokens, mirrors, resume and offline mode."""

from __future__ import annotations

from pathlib import Path

from edge_router.catalog import HubSource
from edge_router.errors import WeightsUnavailable
from edge_router.types import Progress


def fetch_repository(source: HubSource, downloads: Path, *, progress: Progress, offline: bool) -> Path:
    folder = downloads / "hub" / source.repo.replace("/", "--") / source.revision
    if folder.is_dir():
        return folder
    if offline:
        raise WeightsUnavailable(str(source), "the network is switched off", folder)
    from huggingface_hub import snapshot_download

    with progress.step("fetch"):
        return Path(
            snapshot_download(
                source.repo,
                revision=source.revision,
                local_dir=folder,
                allow_patterns=list(source.files) or None,
            )
        )
