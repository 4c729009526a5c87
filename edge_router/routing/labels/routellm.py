"""RouteLLM's own evaluation files, read from a checkout of it.

`routellm/evals` holds a folder per benchmark: csv files with a prompt and a column per model (MMLU, GSM8K),
or questions and judgements by question (MT-Bench), and beside them the prompts that its training data
contained, which are left out here as there. Of the two models the one that does better on the whole counts
as strong.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from edge_router.errors import InvalidData
from edge_router.records import dataclass
from edge_router.routing.labels.rows import Labelled
from edge_router.routing.labels.tables import as_number, read_rows

_EVALS = Path("routellm") / "evals"
_CONTAMINATED, _QUESTIONS, _JUDGEMENTS = "contaminated_prompts.jsonl", "question.jsonl", "judgements.jsonl"
_ANSWER = (
    "_response"  # ends the name of a column with a model's answer, beside the one that says if it was right
)


@dataclass(frozen=True, slots=True)
class _Row:
    """`texts`: every turn of the user's, of which the first is routed on."""

    texts: tuple[str, ...]
    domain: str
    scores: dict[str, float]


def read_checkout(folder: Path) -> Labelled:
    """`folder`: the checkout, its routellm/evals, or one benchmark there. Raises `InvalidData`."""
    root = folder / _EVALS if (folder / _EVALS).is_dir() else folder
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and path.name != "responses")]
    found = [_labelled(path, rows) for path in folders if (rows := _rows(path))]
    if not found:
        raise InvalidData(folder, "holds no benchmark of RouteLLM: no csv files and no judgements.jsonl")
    return Labelled(
        prompts=tuple(prompt for data in found for prompt in data.prompts),
        weak=np.concatenate([data.weak for data in found]),
        strong=np.concatenate([data.strong for data in found]),
        columns={n: tuple(v for data in found for v in data.columns[n]) for n in found[0].columns},
        warnings=tuple(warning for data in found for warning in data.warnings),
        name=folder.name,
    )


def _rows(folder: Path) -> list[_Row]:
    """All of one benchmark, less what RouteLLM's training data contained; none in another folder."""
    if (folder / _JUDGEMENTS).is_file():
        rows = _judged(folder)
    else:
        tables = sorted([*folder.glob("*.csv"), *(folder / "responses").glob("*.csv")])
        rows = [row for table in tables for row in _answered(table)]
    left_out = _contaminated(folder)
    return [row for row in rows if not left_out.intersection(row.texts)]


def _answered(table: Path) -> list[_Row]:
    """A csv file: `prompt`, a column per model with True or False, and perhaps their answers."""
    rows, columns = read_rows(table)
    models = [
        n for n in columns if n and n != "prompt" and not n.endswith(_ANSWER) and not n.startswith("Unnamed")
    ]
    if "prompt" not in columns or len(models) != 2:
        raise InvalidData(table, f"not RouteLLM's: its columns are {', '.join(columns) or 'none'}")
    domain = table.stem.removeprefix("mmlu_").removesuffix("_responses")
    return [
        _Row((str(row["prompt"]),), domain, {m: as_number(row[m], m, i, table) for m in models})
        for i, row in enumerate(rows)
    ]


def _judged(folder: Path) -> list[_Row]:
    """MT-Bench: a model's score on a question is the mean over the turns; routed is on the first."""
    judgements, _ = read_rows(folder / _JUDGEMENTS)
    scores: dict[object, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for i, row in enumerate(judgements):
        value = as_number(row.get("score"), "score", i, folder / _JUDGEMENTS)
        scores[row.get("question_id")][str(row.get("model"))].append(value)
    questions, columns = read_rows(folder / _QUESTIONS)
    if "turns" not in columns or "question_id" not in columns:
        raise InvalidData(folder / _QUESTIONS, "no column question_id or turns")
    found = []
    for row in questions:
        means = {model: float(np.mean(values)) for model, values in scores[row["question_id"]].items()}
        found.append(_Row(tuple(map(str, row["turns"])), str(row.get("category", "")), means))
    return found


def _contaminated(folder: Path) -> set[str]:
    file = folder / _CONTAMINATED
    return {str(row.get("eval_prompt")) for row in read_rows(file)[0]} if file.is_file() else set()


def _labelled(folder: Path, rows: list[_Row]) -> Labelled:
    totals: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for model, score in row.scores.items():
            totals[model].append(score)
    if len(totals) != 2:
        raise InvalidData(folder, f"has the scores of {len(totals)} models, not of two")
    weak, strong = sorted(totals, key=lambda model: float(np.nanmean(totals[model])))
    kept = [row for row in rows if np.isfinite([row.scores.get(m, np.nan) for m in (weak, strong)]).all()]
    dropped = len(rows) - len(kept)
    constants = {"benchmark": folder.name, "weak_model": weak, "strong_model": strong}
    return Labelled(
        prompts=tuple(row.texts[0] for row in kept),
        weak=np.array([row.scores[weak] for row in kept]),
        strong=np.array([row.scores[strong] for row in kept]),
        columns={"domain": tuple(row.domain for row in kept)}
        | {name: (value,) * len(kept) for name, value in constants.items()},
        warnings=(f"{folder.name}: {dropped} of {len(rows)} rows dropped for a missing score",)
        if dropped
        else (),
        name=folder.name,
    )
