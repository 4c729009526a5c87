"""Removing artifacts in two steps: a plan that says what goes and how much that frees, then the deed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_router.records import dataclass
from edge_router.store.manifest import ArtifactRecord, Damage


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the store holds. `damaged` are warnings: folders that count as absent, and leftovers."""

    records: tuple[ArtifactRecord, ...]
    damaged: tuple[Damage, ...]

    @property
    def items(self) -> tuple[ArtifactRecord | Damage, ...]:
        return self.records + self.damaged

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)


@dataclass(frozen=True, slots=True)
class Removed:
    """What a plan really did. `kept` names what is in use or could not be deleted, and why."""

    bytes: int
    paths: tuple[Path, ...]
    kept: tuple[tuple[Path, str], ...]


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """Nothing is touched before `execute`."""

    records: tuple[ArtifactRecord, ...]
    damaged: tuple[Damage, ...]
    remove: Callable[[Path], str | None]  # deletes one folder; the reason if it stays

    @property
    def items(self) -> tuple[ArtifactRecord | Damage, ...]:
        return self.records + self.damaged

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)

    def __len__(self) -> int:
        return len(self.items)

    def execute(self) -> Removed:
        """Deletes what the plan names, as far as nobody is building or holding it."""
        freed, gone, kept = 0, list[Path](), list[tuple[Path, str]]()
        for item in self.items:
            reason = self.remove(item.path)
            if reason is None:
                freed += item.bytes
                gone.append(item.path)
            else:
                kept.append((item.path, reason))
        return Removed(freed, tuple(gone), tuple(kept))
