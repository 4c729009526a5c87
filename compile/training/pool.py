"""The training pool: prompts, and how well many models answered each of them.

A parquet file with the columns prompt, scores (JSON {model: 0..1}), source, subset, and optionally split
(`train` or `val`) and licence.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_router.errors import InvalidData, MissingExtra
from edge_router.parsing import strict_json
from edge_router.records import dataclass

_COLUMNS = ("prompt", "scores", "source", "subset")
_SPLIT, _LICENCE = "split", "licence"


@dataclass(frozen=True, slots=True)
class LabelPool:
    """`labels` float32 [prompts, models], 0..1, NaN where a model did not answer."""

    prompts: tuple[str, ...]
    sources: np.ndarray  # str [prompts]
    subsets: np.ndarray  # str [prompts]; a subset belongs to one source
    models: tuple[str, ...]
    labels: np.ndarray
    validation: np.ndarray  # bool [prompts]: kept out of fitting
    licences: np.ndarray  # str [prompts], empty where the file does not say

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: np.ndarray) -> LabelPool:
        """`rows`: indices or a mask."""
        kept = np.arange(len(self))[rows]
        return LabelPool(
            tuple(self.prompts[i] for i in kept),
            self.sources[kept],
            self.subsets[kept],
            self.models,
            self.labels[kept],
            self.validation[kept],
            self.licences[kept],
        )

    def provenance(self) -> str:
        """How many prompts from which source, under which licence."""
        counts = Counter(zip(self.sources.tolist(), self.licences.tolist(), strict=True))
        parts = [
            f"{source} {n} ({licence or 'licence not stated'})"
            for (source, licence), n in sorted(counts.items())
        ]
        return f"{len(self)} prompts answered by {len(self.models)} models: {', '.join(parts)}"


def read_pool(file: Path) -> LabelPool:
    """Raises `InvalidData` naming the column or row at fault, `MissingExtra` without pyarrow."""
    columns = _columns(file)
    scores = [_scores(text, row, file) for row, text in enumerate(columns["scores"])]
    sources = np.array(columns["source"], dtype=np.str_)
    # A model's scores under another scorer mean something else, so it counts as another model.
    names = [
        {f"{source}/{m}": s for m, s in found.items()} for source, found in zip(sources, scores, strict=True)
    ]
    models = sorted({name for row in names for name in row})
    index = {name: i for i, name in enumerate(models)}
    labels = np.full((len(names), len(models)), np.nan, np.float32)
    for row, found in enumerate(names):
        for name, score in found.items():
            labels[row, index[name]] = score
    subsets = np.array([f"{a}/{b}" for a, b in zip(sources, columns["subset"], strict=True)], dtype=np.str_)
    split = np.array([value == "val" for value in columns[_SPLIT]], dtype=bool)
    licences = np.array(columns[_LICENCE], dtype=np.str_)
    return LabelPool(tuple(columns["prompt"]), sources, subsets, tuple(models), labels, split, licences)


def _columns(file: Path) -> dict[str, list[Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "train", "reading parquet files") from error
    try:
        table = pyarrow.parquet.read_table(file)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise InvalidData(file, f"cannot be read as parquet: {error}") from error
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise InvalidData(file, f"no column {', '.join(missing)}")
    if not table.num_rows:
        raise InvalidData(file, "no rows")
    columns = {name: table.column(name).to_pylist() for name in _COLUMNS}
    given = _SPLIT in table.column_names
    columns[_SPLIT] = table.column(_SPLIT).to_pylist() if given else _drawn(columns["prompt"])
    licensed = _LICENCE in table.column_names
    columns[_LICENCE] = table.column(_LICENCE).to_pylist() if licensed else [""] * table.num_rows
    return columns


def _drawn(prompts: Sequence[str]) -> list[str]:
    """A tenth for validation, by a hash of the prompt, so that a prompt that stands twice is on one side."""
    return ["val" if zlib.crc32(prompt.encode("utf-8")) % 10 == 0 else "train" for prompt in prompts]


def _scores(text: object, row: int, file: Path) -> dict[str, float]:
    try:
        found = {str(name): float(score) for name, score in strict_json.parse_object(str(text)).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidData(file, f"row {row}: scores are not JSON {{model: score}}") from error
    bad = [name for name, score in found.items() if not 0 <= score <= 1]
    if bad:
        raise InvalidData(file, f"row {row}: the score of {bad[0]} is {found[bad[0]]}, not in 0..1")
    return found
