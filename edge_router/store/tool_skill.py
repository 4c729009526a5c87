"""How well one model calls tools, and where that is kept: with the weights that it was measured with."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from edge_router.errors import InvalidData
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.store import ArtifactStore
from edge_router.system.paths import Paths

KIND, FILE = "tools", "skill.json"
FORMAT = 1
# What an assistant can be built on: a wrong function does harm, a wrong refusal is only asked again.
LEAST = {"functions": 0.9, "arguments": 0.8, "refusals": 0.8, "results": 0.8}


@dataclass(frozen=True, slots=True)
class Skill:
    """Shares of what was right: the function of a call, its arguments too, no call where no tool fits, and an
    answer from a result.
    """

    model: str
    cases: int
    functions: float
    arguments: float
    refusals: float
    results: float

    @property
    def lacking(self) -> tuple[str, ...]:
        """What is not good enough, by name."""
        return tuple(name for name, least in LEAST.items() if getattr(self, name) < least)

    @property
    def passed(self) -> bool:
        return not self.lacking

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "passed": self.passed}


def find(paths: Paths, weights: str) -> Skill | None:
    """None where nothing was measured. Raises `InvalidData`."""
    folder = ArtifactStore(paths.artifacts).find(KIND, weights)
    return None if folder is None else _read(folder / FILE)


def find_of(paths: Paths, model: str) -> Skill | None:
    """What was measured last of a model of that name, whatever its weights: what is likely of it."""
    records = ArtifactStore(paths.artifacts).scan().records
    of_it = [record for record in records if record.kind == KIND and record.inputs.get("model") == model]
    newest = max(of_it, key=lambda record: record.created, default=None)
    return None if newest is None else _read(newest.path / FILE)


def keep(skill: Skill, paths: Paths, weights: str) -> Path:
    """In place of what was measured before; the file. Raises `StorageError`."""
    store = ArtifactStore(paths.artifacts)
    store.plan_removal(kind=KIND, keys=[weights]).execute()

    def write(folder: Path) -> None:
        (folder / FILE).write_text(json.dumps({"format": FORMAT, **asdict(skill)}), encoding="utf-8")

    inputs = {"model": skill.model, "weights": weights, "cases": skill.cases}
    return store.obtain(KIND, weights, write, inputs=inputs) / FILE


def _read(file: Path) -> Skill:
    try:
        stated = strict_json.read_object(file)
        if stated.pop("format") != FORMAT:
            raise InvalidData(file, "is of another version; measure again: edge-router calibrate --tools")
        shares = {name: float(stated[name]) for name in LEAST}
        return Skill(str(stated["model"]), int(stated["cases"]), **shares)
    except InvalidData:
        raise
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidData(file, f"was not written here: {error}; remove it") from error
