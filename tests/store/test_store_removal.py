"""Removal: a plan with its bytes first, the deed after."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from edge_router.store import ArtifactStore
from edge_router.system.disk import hold
from edge_router.types import SilentProgress


def build(size: int = 1000) -> object:
    def write(folder: Path) -> None:
        (folder / "file").write_bytes(b"x" * size)

    return write


@pytest.fixture
def filled(store: ArtifactStore) -> ArtifactStore:
    for kind, key, model, size in (
        ("weights", "aaa1", "Small", 1000),
        ("library", "bbb2", "Small", 200),
        ("library", "bbb3", "Large", 30),
    ):
        store.obtain(kind, key, build(size), inputs={"model": model})  # type: ignore[arg-type]
    return store


def age(root: Path, key: str, *, created: float = 0, version: str | None = None) -> None:
    [file] = root.glob(f"*/{key}/manifest.json")
    manifest = json.loads(file.read_text())
    manifest["created"] -= created
    manifest["version"] = version or manifest["version"]
    file.write_text(json.dumps(manifest))


def test_scan_lists_everything_newest_use_first(filled: ArtifactStore) -> None:
    inventory = filled.scan()
    assert {record.key for record in inventory.records} == {"aaa1", "bbb2", "bbb3"}
    assert inventory.bytes == 1230
    assert {record.model for record in inventory.records if record.kind == "library"} == {"Small", "Large"}
    uses = [record.last_used for record in inventory.records]
    assert uses == sorted(uses, reverse=True)
    assert all(record.created <= time.time() for record in inventory.records)


def test_nothing_is_touched_before_the_plan_is_executed(filled: ArtifactStore, root: Path) -> None:
    plan = filled.plan_removal()
    assert plan.bytes == 1230 and len(plan) == 3
    assert len(filled.scan().records) == 3
    removed = plan.execute()
    assert removed.bytes == 1230 and len(removed.paths) == 3 and removed.kept == ()
    assert filled.scan().records == () and not list(root.rglob("file"))
    assert plan.execute().bytes == 1230  # again: they are gone, which is what was wanted


def test_conditions_narrow_the_plan(filled: ArtifactStore, root: Path) -> None:
    def keys(**conditions: object) -> set[str]:
        return {record.key for record in filled.plan_removal(**conditions).records}  # type: ignore[arg-type]

    age(root, "bbb2", created=500)
    age(root, "bbb3", version="0.0.1")
    assert keys(kind="library") == {"bbb2", "bbb3"}
    assert keys(model="small") == {"aaa1", "bbb2"}
    assert keys(keys=["bbb"]) == {"bbb2", "bbb3"}
    assert keys(keys=["aaa1"], kind="library") == set()
    assert keys(older_than_s=400) == {"bbb2"}
    assert keys(unused_for_s=400) == set()
    assert keys(other_versions=True) == {"bbb3"}


def test_damaged_things_go_along(filled: ArtifactStore, root: Path) -> None:
    (root / "library" / "bbb2" / "file").unlink()
    (root / "weights" / ".zzz.partial").mkdir()
    plan = filled.plan_removal(older_than_s=1e6)
    assert plan.records == () and {item.path.name for item in plan.damaged} == {"bbb2", ".zzz.partial"}
    assert {item.path.name for item in filled.plan_removal(kind="weights").damaged} == {".zzz.partial"}
    assert {item.path.name for item in filled.plan_removal(keys=["bbb"]).damaged} == {"bbb2"}
    assert filled.plan_removal(model="Large").damaged == ()
    plan.execute()
    assert filled.scan().damaged == ()


def test_what_another_process_is_building_stays(filled: ArtifactStore, root: Path) -> None:
    plan = filled.plan_removal(keys=["bbb2", "bbb3"])
    with hold(root / "library" / ".bbb2.lock", timeout_s=1, progress=SilentProgress(), doing="builds"):
        removed = plan.execute()
    assert removed.bytes == 30
    assert removed.kept == ((root / "library" / "bbb2", "another process is building it"),)


def test_what_cannot_be_deleted_is_named(
    filled: ArtifactStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("edge_router.store.artifacts.remove_tree", refuse)
    removed = filled.plan_removal(keys=["bbb2"]).execute()
    assert removed.bytes == 0 and removed.kept == ((root / "library" / "bbb2", "Permission denied"),)
