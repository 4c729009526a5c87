"""Reading labelled prompts, and prompts alone, from parquet, csv and jsonl files and RouteLLM's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_router.errors import InvalidData
from edge_router.routing.labels.routellm import read_checkout
from edge_router.routing.labels.rows import Labelled
from edge_router.routing.labels.tables import as_number, read_rows

__all__ = ["NEEDED", "Labelled", "read_labelled", "read_prompts"]

NEEDED = ("prompt", "weak_score", "strong_score")


def read_labelled(file: Path) -> Labelled:
    """A file with the columns prompt, weak_score and strong_score, or a folder: a checkout of RouteLLM.

    Rows with a score that is missing or not finite are dropped, and `warnings` says how many.
    Raises `InvalidData` naming the missing columns or the row that cannot be read, `MissingExtra` for parquet
    without pyarrow.
    """
    if file.is_dir():
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
        except OSError as error:
            raise InvalidData(file, f"cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise InvalidData(file, f"not UTF-8: {error}") from error
    else:
        rows, columns = read_rows(file)
        if "prompt" not in columns:
            raise InvalidData(file, f"no column prompt; it has {', '.join(columns) or 'none'}")
        found = tuple(text for row in rows if isinstance(text := row.get("prompt"), str))
    if not found:
        raise InvalidData(file, "holds no prompt")
    return found
