"""Labels of the user's own pair of models: both answer the user's own prompts, and the answers are judged.

One line of JSON per prompt is appended as soon as it is known, so a run that was stopped goes on where it
was. Money is counted from the configured prices; a capped run stops before a prompt that could break the cap.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from edge_router.api.client import Controller
from edge_router.chat.events import Usage
from edge_router.errors import (
    ContextOverflow,
    GenerationFailed,
    InvalidData,
    InvalidInput,
    StrongFailed,
    StrongRefused,
    TemplateError,
)
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.routing.labels.judging import VERDICT_TOKENS, Judge, choice, comparison, exact, verdict
from edge_router.routing.labels.tables import read_rows
from edge_router.routing.thresholds.prices import Prices
from edge_router.surfaces.openai.objects import ChatCompletion
from edge_router.system.disk import storage_errors, whole_lines
from edge_router.types import Progress, SilentProgress

ANSWER_TOKENS = 512
_FRAME = 512  # tokens at most of a judge's question beside prompt and answers
_ONE_PROMPT = (ContextOverflow, GenerationFailed, TemplateError)  # nothing is wrong with the next one
_REFUSED = (400, 413, 422)  # HTTP: this prompt is not wanted
_UNFINISHED = "unfinished"  # paid for in part; it is tried again


@dataclass(frozen=True, slots=True)
class LabelTask:
    prompt: str
    known: str = ""  # the right answer, for the judges that need it


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One line of the output; what `train --adapt` reads, and what is needed to check it.

    Without scores, which readers drop, where there was a `problem`: what it cost counts all the same.
    """

    prompt: str
    weak_score: float | None
    strong_score: float | None
    weak_answer: str
    strong_answer: str
    weak_model: str
    strong_model: str
    judge: str
    cost: float | None  # None without prices
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Labelling:
    """How to label. `budget`: the most money that all rows of `output` together may cost; needs `prices`."""

    judge: Judge
    output: Path
    prices: Prices | None = None
    budget: float | None = None
    max_tokens: int = ANSWER_TOKENS


@dataclass(frozen=True, slots=True)
class LabelOutcome:
    """`rows`: all of the output, `new` of them from this run. `left`: prompts that had no money left."""

    rows: tuple[LabelRow, ...]
    new: int
    left: int

    @property
    def scores(self) -> tuple[tuple[float, float], ...]:
        """(weak, strong) of every prompt that was judged."""
        pairs = ((row.weak_score, row.strong_score) for row in self.rows)
        return tuple((weak, strong) for weak, strong in pairs if weak is not None and strong is not None)

    @property
    def problems(self) -> tuple[str, ...]:
        found = (row for row in self.rows if row.problem not in ("", _UNFINISHED))
        return tuple(f"{row.prompt[:60]!r}: {row.problem}" for row in found)

    @property
    def cost(self) -> float:
        return _spent(self.rows)

    def to_dict(self) -> dict[str, object]:
        n = len(self.scores)
        weak, strong = (sum(pair[k] for pair in self.scores) for k in (0, 1))
        return {
            "labelled": n,
            "new": self.new,
            "left": self.left,
            "skipped": len(self.problems),
            "cost": round(self.cost, 6),
            "weak_quality": round(weak / n, 4) if n else None,
            "strong_quality": round(strong / n, 4) if n else None,
        }


def read_tasks(file: Path, judge: Judge, answers: str = "answer") -> tuple[LabelTask, ...]:
    """The prompts, each once; `answers`: the column of known ones. Raises `InvalidData`, `MissingExtra`."""
    from edge_router.routing.labels.reading import read_prompts

    if judge == "strong":
        return tuple(LabelTask(prompt) for prompt in dict.fromkeys(read_prompts(file)))
    rows, columns = read_rows(file)
    missing = [name for name in ("prompt", answers) if name not in columns]
    if missing:
        raise InvalidData(file, f"no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}")
    found = {
        str(row["prompt"]): str(row[answers])
        for row in rows
        if row.get("prompt") and row.get(answers) not in (None, "")
    }
    if not found:
        raise InvalidData(file, f"no row has a prompt and its {answers}")
    return tuple(LabelTask(prompt, known) for prompt, known in found.items())


def label_tasks(
    controller: Controller, tasks: Sequence[LabelTask], how: Labelling, progress: Progress | None = None
) -> LabelOutcome:
    """Both models on every task that is not in the output yet. What is done is in the output at any moment.

    Raises what keeps every prompt from being answered (no strong model, no network), `InvalidData` for an
    output that other models or another judge made, `StorageError`. A prompt that one model cannot answer
    is skipped.
    """
    if how.budget is not None and how.prices is None:
        raise InvalidInput("a cap in money needs the strong model's prices")
    progress = progress or SilentProgress()
    rows = list(read_output(how.output))
    _check(rows, how)
    done = {row.prompt for row in rows if row.problem != _UNFINISHED}
    open_tasks = [task for task in tasks if task.prompt not in done]
    with progress.step("label", total=len(open_tasks), unit="prompts") as step:
        for index, task in enumerate(open_tasks):
            if how.budget is not None and _spent(rows) + dearest(task, how) > how.budget:
                return LabelOutcome(tuple(rows), index, len(open_tasks) - index)
            row = _finished(controller, task, how)
            _check([*rows, row], how)
            _append(how.output, row)
            rows.append(row)
            step.advance()
    return LabelOutcome(tuple(rows), len(open_tasks), 0)


def _finished(controller: Controller, task: LabelTask, how: Labelling) -> LabelRow:
    """The task's row, one with a problem where it is this prompt's alone; what else happens is raised."""
    paid: list[ChatCompletion] = []
    try:
        return _label(controller, task, how, paid)
    except _ONE_PROMPT as error:
        return _without_scores(task, how, paid, str(error))
    except (StrongFailed, StrongRefused) as error:
        if _is_this_prompts(error):
            return _without_scores(task, how, paid, str(error))
        raise
    except BaseException:  # Ctrl-C too: what has been paid must not be forgotten
        if paid:
            _append(how.output, _without_scores(task, how, paid, _UNFINISHED))
        raise


def _is_this_prompts(error: StrongFailed | StrongRefused) -> bool:
    """Whether the next prompt may well be taken."""
    if isinstance(error, StrongRefused):
        return error.field.startswith("messages")
    return error.status in _REFUSED


def _spent(rows: Sequence[LabelRow]) -> float:
    return sum(row.cost or 0.0 for row in rows)


def dearest(task: LabelTask, how: Labelling) -> float:
    """The most that a task can cost: no token is shorter than a byte, no answer longer than its limit."""
    if how.prices is None:
        return 0.0
    prices, prompt = how.prices, len(task.prompt.encode("utf-8", "replace")) + _FRAME
    tokens_in, tokens_out = prompt, how.max_tokens
    if how.judge == "strong":
        # Both answers are read again; another model's tokens may be more than were written.
        tokens_in, tokens_out = 2 * prompt + 4 * how.max_tokens, tokens_out + VERDICT_TOKENS
    return (tokens_in * prices.price_in + tokens_out * prices.price_out) / 1e6


def read_output(file: Path) -> Iterator[LabelRow]:
    """The rows so far. Raises `InvalidData`, `StorageError`."""
    for number, line in enumerate(whole_lines(file), start=1):
        try:
            yield LabelRow(**strict_json.parse_object(line))
        except (ValueError, TypeError) as error:
            raise InvalidData(file, f"line {number} was not written by label: {error}") from error


def _check(rows: Sequence[LabelRow], how: Labelling) -> None:
    """One file, one judge, one pair of models: anything else would be no comparison."""
    judges = {row.judge for row in rows} | {how.judge}
    pairs = {(row.weak_model, row.strong_model) for row in rows if not row.problem}
    if len(judges) > 1:
        raise InvalidData(
            how.output, f"was judged otherwise ({', '.join(sorted(judges))}); take another file"
        )
    if len(pairs) > 1:
        names = "; ".join(f"{weak} and {strong}" for weak, strong in sorted(pairs))
        raise InvalidData(how.output, f"holds answers of other models: {names}; take another file")


def _append(file: Path, row: LabelRow) -> None:
    with storage_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(json.dumps(asdict(row), ensure_ascii=True) + "\n")
            stream.flush()
            os.fsync(stream.fileno())  # it was paid for


def _label(controller: Controller, task: LabelTask, how: Labelling, paid: list[ChatCompletion]) -> LabelRow:
    """`paid` gets every reply of the strong model, also where this raises."""
    # The strong model first: without one, this ends before the weak one has worked for nothing.
    strong = _ask(controller, "strong", task.prompt, how.max_tokens)
    paid.append(strong)
    weak = _ask(controller, "weak", task.prompt, how.max_tokens)
    if how.judge == "strong":
        question = comparison(task.prompt, weak.text, strong.text)
        said = _ask(controller, "strong", question, VERDICT_TOKENS)
        paid.append(said)
        found = verdict(said.text, task.prompt)
        if found is None:
            raise GenerationFailed(said.model, f"its verdict is neither A, B nor TIE: {said.text[:60]!r}")
        scores = found
    else:
        rule = exact if how.judge == "exact" else choice
        scores = rule(weak.text, task.known), rule(strong.text, task.known)
    models, cost = (weak.model, strong.model), _cost(paid, how.prices)
    return LabelRow(task.prompt, *scores, weak.text, strong.text, *models, how.judge, cost)


def _without_scores(
    task: LabelTask, how: Labelling, paid: Sequence[ChatCompletion], problem: str
) -> LabelRow:
    cost = _cost(paid, how.prices)
    return LabelRow(task.prompt, None, None, "", "", "", "", how.judge, cost, problem)


def _ask(controller: Controller, tier: str, prompt: str, max_tokens: int) -> ChatCompletion:
    messages: list[Mapping[str, object]] = [{"role": "user", "content": prompt}]
    return controller.chat.completions.create(model=tier, messages=messages, max_tokens=max_tokens)


def _cost(paid: Sequence[ChatCompletion], prices: Prices | None) -> float | None:
    if prices is None:
        return None
    usages = [reply.usage for reply in paid if reply.usage is not None]
    return sum(prices.cost(Usage(usage.prompt_tokens, usage.completion_tokens)) for usage in usages)
