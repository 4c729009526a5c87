"""`edge-router calibrate --confidence`: how sure the weak model has to be of an answer that is shown"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge_router.cli import output
from edge_router.cli.building import make_ready
from edge_router.cli.hush import hushed
from edge_router.cli.session import Session
from edge_router.config import Config
from edge_router.errors import EngineUnavailable

if TYPE_CHECKING:
    from edge_router.calibration import Calibration
    from edge_router.confidence.asking import Task
    from edge_router.confidence.fit import Sample, Seen
    from edge_router.confidence.measure import Worth
    from edge_router.engines.base import Engine
    from edge_router.loaded import Loaded

QUESTIONS, TOKENS = 660, 8
_OWN = 256  # tokens of an answer to a question of the user's
COLUMNS = ("signal", "AUROC", "95 % interval", "other kinds", "APGR", "95 % interval")


def calibrate_confidence(
    session: Session,
    config: Config,
    *,
    strong_share: float,
    prompts: Path | None,
    answers: str,
    count: int,
    tokens: int,
    yes: bool,
) -> None:
    """Let the weak model answer questions with known answers, fit, measure on what was not fitted, keep."""
    make_ready(session, config, yes=yes)
    tasks, longest = _tasks(prompts, answers, count)
    with closing(session.loaded(config)) as loaded:
        with hushed():
            engine = loaded.weak()
            asked, seen, watched = _ask(session, engine, tasks, longest)
        scores = loaded.router(None).score_texts([task.text for task in asked])
        _fit(session, loaded, asked, seen, watched, scores, strong_share, tokens)


def _tasks(prompts: Path | None, answers: str, count: int) -> tuple[list[Task], int]:
    """And how long an answer may get, in tokens."""
    from edge_router.confidence.asking import LONGEST, Task
    from edge_router.confidence.questions import questions
    from edge_router.labelling import read_tasks
    from edge_router.types import Message

    if prompts is None:
        return [Task.of(question) for question in questions(count)], LONGEST
    found = read_tasks(prompts, "exact", answers)
    return [Task((Message("user", task.prompt),), task.known) for task in found], _OWN


def _ask(
    session: Session, engine: Engine, tasks: Sequence[Task], longest: int
) -> tuple[list[Task], list[Seen], tuple[int, ...]]:
    from edge_router.confidence.asking import anchors, ask

    weights, size = _weights(engine), getattr(engine, "vocab_size", 0)
    watched = anchors(size) if size else ()
    name = f"{weights}-{len(watched)}-{longest}.jsonl"
    file = session.paths.calibration.parent / "confidence" / name
    try:
        asked, seen = ask(engine, tasks, watched, file, longest=longest, progress=session.progress)
    except KeyboardInterrupt:
        output.say(f"What was answered is in {file}; the same command goes on from there.")
        raise
    return asked, seen, watched if seen and seen[0].state else ()


def _weights(engine: Engine) -> str:
    key = getattr(engine, "weights_key", None)
    if key is None:
        raise EngineUnavailable(engine.model_id, "only a weak model that was built here can be calibrated")
    return str(key)


def _fit(
    session: Session,
    loaded: Loaded,
    asked: Sequence[Task],
    seen: Sequence[Seen],
    watched: tuple[int, ...],
    scores: Sequence[float],
    strong_share: float,
    tokens: int,
) -> None:
    from edge_router.calibration import choose_threshold
    from edge_router.confidence.fit import Sample, gate
    from edge_router.confidence.measure import measure
    from edge_router.confidence.place import keep

    sample = Sample(seen, tokens)
    with session.progress.step("fit"):
        lengths = [len(task.text) for task in asked]
        measured = measure(sample, scores, lengths, [task.kind for task in asked])
        found = gate(sample, watched)
    chosen = choose_threshold(measured.doubts, strong_share)
    engine = loaded.weak()
    inputs = {"model": engine.model_id, "weights": _weights(engine), "answers": len(seen), "tokens": tokens}
    keep(found, session.paths, _weights(engine), inputs)
    _tell(session, sample, measured.signals, chosen, engine.model_id, loaded.router(None).name)


def _tell(
    session: Session,
    sample: Sample,
    worth: Mapping[str, Worth],
    chosen: Calibration,
    model: str,
    router: str,
) -> None:
    for warning in chosen.warnings:
        output.say(f"warning: {warning}", style="yellow")
    least, right = 1 - chosen.threshold, float(sample.right.mean())
    facts = {"model": model, "router": router, "tokens": sample.tokens, "right": round(right, 4)}
    if session.json:
        signals = {name: value.to_dict() for name, value in worth.items()}
        shares = {name: value for name, value in chosen.to_dict().items() if name != "threshold"}
        output.write_json({**facts, "min_confidence": least, **shares, "signals": signals})
        return
    output.table(COLUMNS, [_row(name, value) for name, value in worth.items()], right=("AUROC", "APGR"))
    output.say(
        f"{model} gave {right:.1%} of {chosen.n} answers right. With weak.min_confidence={least:.6g} it "
        f"escalates {chosen.share:.1%} of them, {chosen.low:.1%} to {chosen.high:.1%} of others like them, "
        f"after at most {sample.tokens} tokens; other traffic is escalated as it comes.",
        style="dim",
    )


def _row(name: str, value: Worth) -> tuple[str, ...]:
    def number(found: float | None) -> str:
        return "-" if found is None else f"{found:.3f}"

    return (
        name,
        number(value.auroc),
        f"{number(value.auroc_low)} to {number(value.auroc_high)}",
        number(value.other_kinds),
        number(value.apgr),
        f"{number(value.apgr_low)} to {number(value.apgr_high)}",
    )


def check_options(*, ledger: bool, tokens: int) -> None:
    """Raises for what does not go together."""
    from edge_router.confidence.asking import TOKENS as most

    if ledger:
        raise typer.BadParameter("the ledger has no known answers; take --prompts FILE, or neither")
    if tokens > most:
        raise typer.BadParameter(f"--tokens can be {most} at most")
