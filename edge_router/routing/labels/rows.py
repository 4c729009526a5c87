"""Labelled prompts: what both models' answers were worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace

import numpy as np

from edge_router.errors import InvalidData
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class Labelled:
    """`weak` and `strong` float64 [prompts], on one scale. `columns`: the other columns, as text."""

    prompts: tuple[str, ...]
    weak: np.ndarray
    strong: np.ndarray
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    name: str = "data"

    def __len__(self) -> int:
        return len(self.prompts)

    def groups(self, by: str) -> dict[str, np.ndarray]:
        """Row indices by the values of a column, or of several with commas between them.

        `benchmark` also splits a benchmark by `weak_model` where several of them answered it; without such a
        column it is all rows, under the file's name.
        """
        names = [name.strip() for name in by.split(",")]
        if names == ["benchmark"]:
            names = self._usual_columns()
        missing = [name for name in names if name not in self.columns]
        if missing:
            known = ", ".join(sorted(self.columns)) or "none beside the scores"
            raise InvalidData(self.name, f"no column {', '.join(missing)}; columns: {known}")
        if not names:
            return {self.name: np.arange(len(self))}
        joined = zip(*(self.columns[name] for name in names), strict=True)
        values = np.array([", ".join(value) for value in joined], dtype=np.str_)
        return {str(value): np.flatnonzero(values == value) for value in np.unique(values)}

    def _usual_columns(self) -> list[str]:
        whole = [""] * len(self)
        benchmarks = self.columns.get("benchmark", whole)
        pairs = set(zip(benchmarks, self.columns.get("weak_model", whole), strict=True))
        names = ["benchmark"] if "benchmark" in self.columns else []
        return [*names, "weak_model"] if len(pairs) > len(set(benchmarks)) else names

    def only(self, column: str, value: str) -> Labelled:
        """The rows with that value. Raises `InvalidData` where there is none."""
        rows = self.groups(column).get(value)
        if rows is None:
            raise InvalidData(self.name, f"no row has {value!r} as its {column}")
        return replace(self.take(rows), name=value)

    def spread(self, count: int, by: str) -> Labelled:
        """At most `count` rows of each group, evenly spread over it; in the order they had."""
        parts = self.groups(by).values()
        places = (np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int) for rows in parts)
        kept = [rows[place] for rows, place in zip(parts, places, strict=True)]
        return self.take(np.sort(np.concatenate(kept)))

    def take(self, rows: Sequence[int] | np.ndarray) -> Labelled:
        kept = np.arange(len(self))[np.asarray(rows)]
        columns = {name: tuple(values[i] for i in kept) for name, values in self.columns.items()}
        prompts = tuple(self.prompts[i] for i in kept)
        return Labelled(prompts, self.weak[kept], self.strong[kept], columns, self.warnings, self.name)
