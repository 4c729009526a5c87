"""Rows of a parquet, csv or jsonl file, as text and numbers."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_router.errors import InvalidData, MissingExtra
from edge_router.parsing import strict_json

_FIELD_LIMIT = 16 * 1024 * 1024  # bytes of one csv field; the module's own limit is 128 KiB


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
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append(strict_json.parse_object(line, nan=True))
        except strict_json.NotJson as error:
            raise InvalidData(file, f"line {number} is not a JSON object: {error}") from error
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
