"""Labelled prompts: what both models' answers were worth. Read from parquet, csv or jsonl."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_router.errors import InvalidData, MissingExtra

NEEDED = ("prompt", "weak_score", "strong_score")
_FIELD_LIMIT = 16 * 1024 * 1024  # bytes of one csv field; the module's own limit is 128 KiB


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

    def take(self, rows: Sequence[int] | np.ndarray) -> Labelled:
        kept = np.arange(len(self))[np.asarray(rows)]
        columns = {name: tuple(values[i] for i in kept) for name, values in self.columns.items()}
        prompts = tuple(self.prompts[i] for i in kept)
        return Labelled(prompts, self.weak[kept], self.strong[kept], columns, self.warnings, self.name)


def read_labelled(file: Path) -> Labelled:
    """A file with the columns prompt, weak_score and strong_score, or a folder: a checkout of RouteLLM.

    Rows with a score that is missing or not finite are dropped, and `warnings` says how many.
    Raises `InvalidData` naming the missing columns or the row that cannot be read, `MissingExtra` for parquet
    without pyarrow.
    """
    if file.is_dir():
        from edge_router.routellm import read_checkout

        return read_checkout(file)
    rows, columns = read_rows(file)
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise InvalidData(file, f"no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}")
    scores = np.array([[as_number(row.get(n), n, i, file) for n in NEEDED[1:]] for i, row in enumerate(rows)])
    scores = scores.reshape(-1, 2)
    texts = [row.get("prompt") for row in rows]
    usable = np.isfinite(scores).all(axis=1) & np.array([isinstance(text, str) for text in texts], dtype=bool)
    dropped = len(rows) - int(usable.sum())
    if dropped == len(rows):
        raise InvalidData(file, "no row has a prompt and two scores")
    kept = np.flatnonzero(usable).tolist()
    others = [name for name in columns if name not in NEEDED]
    return Labelled(
        prompts=tuple(str(texts[i]) for i in kept),
        weak=scores[kept, 0],
        strong=scores[kept, 1],
        columns={name: tuple(str(rows[i].get(name, "")) for i in kept) for name in others},
        warnings=(f"{file.name}: {dropped} of {len(rows)} rows dropped for a missing score",)
        if dropped
        else (),
        name=file.stem,
    )


def read_prompts(file: Path) -> tuple[str, ...]:
    """A sample of traffic: the lines of a .txt, or the column `prompt` of a file that needs no other.

    Raises `InvalidData`, `MissingExtra`.
    """
    if file.suffix.lower() == ".txt":
        try:
            found = tuple(line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidData(file, f"cannot be read: {error}") from error
    else:
        rows, columns = read_rows(file)
        if "prompt" not in columns:
            raise InvalidData(file, f"no column prompt; it has {', '.join(columns) or 'none'}")
        found = tuple(text for row in rows if isinstance(text := row.get("prompt"), str))
    if not found:
        raise InvalidData(file, "holds no prompt")
    return found


def read_rows(file: Path) -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
    """The rows and the names of the columns. Raises `InvalidData`, `MissingExtra`."""
    readers = {".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": _read_jsonl}
    if file.suffix.lower() not in readers:
        raise InvalidData(file, f"must end in {', '.join(readers)}")
    try:
        return readers[file.suffix.lower()](file)
    except OSError as error:
        raise InvalidData(file, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidData(file, f"not UTF-8: {error}") from error


def _read_parquet(file: Path) -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "train", "reading parquet files") from error
    try:
        table = pyarrow.parquet.read_table(file)
    except pyarrow.ArrowInvalid as error:
        raise InvalidData(file, f"not a parquet file: {error}") from error
    return table.to_pylist(), table.column_names


def _read_csv(file: Path) -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        before = csv.field_size_limit(_FIELD_LIMIT)
        try:
            reader = csv.DictReader(stream)
            return list(reader), list(reader.fieldnames or ())
        except csv.Error as error:
            raise InvalidData(file, f"not a csv file: {error}") from error
        finally:
            csv.field_size_limit(before)


def _read_jsonl(file: Path) -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
    rows: list[Mapping[str, Any]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InvalidData(file, f"line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise InvalidData(file, f"line {number} is not a JSON object")
        rows.append(row)
    return rows, list(dict.fromkeys(name for row in rows for name in row))


def as_number(value: object, column: str, row: int, file: Path) -> float:
    """NaN for what is missing; booleans, as RouteLLM's csv files have them, are 0 and 1."""
    if value is None or value == "":
        return math.nan
    words = {"true": 1.0, "false": 0.0}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    if isinstance(value, bool | int | float | str):
        try:
            return float(value)
        except ValueError:
            pass
    raise InvalidData(file, f"row {row + 1}: {column} is {value!r}, not a number")
