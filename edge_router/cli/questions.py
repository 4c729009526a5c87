"""`calibrate --decisions` and `replay --decisions`: how sure is sure enough, and what that keeps here."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_router.cli import output
from edge_router.cli.building import make_ready
from edge_router.cli.hush import hushed
from edge_router.cli.session import Session
from edge_router.config import Config
from edge_router.errors import CannotCalibrate
from edge_router.questions.bounds import NONE_STAYS

if TYPE_CHECKING:
    from edge_router.thresholds.question_bounds import Found, Measured

NAMES = {"yes_no": "yes or no", "choice": "choice", "scale": "scale"}
COLUMNS = ("type", "labels", "sure from", "stay here", "of these wrong", "at most")
_RIGHT = COLUMNS[1:]
STEPS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)  # bounds that replay shows beside the one in force


def calibrate_decisions(session: Session, config: Config, file: Path, *, max_error: float, yes: bool) -> None:
    """Raises `InvalidData` for a file that holds no labels, `CannotCalibrate` for a model that was not built
    here or answers no typed questions."""
    from edge_router.labelled_questions import measure, read_labelled
    from edge_router.thresholds.question_bounds import Measured, keep

    labelled = read_labelled(file)
    make_ready(session, config, yes=yes)
    with closing(session.pool(config)) as loaded, hushed():
        engine = loaded.weak()
        able = engine.capabilities
        if able.weights is None:
            raise CannotCalibrate(engine.model_id, "only a model that was built here can be")
        if not able.decides:
            raise CannotCalibrate(engine.model_id, "it answers no typed questions")
        seen = list(measure(engine, labelled, session.progress))
        measured = Measured.of(engine.model_id, seen, max_error)
        keep(measured, session.paths, able.weights)
    if session.json:
        output.write_json(measured.to_dict())
        return
    rows = [_row(NAMES[kind], found) for kind, found in measured.found.items()]
    output.table(COLUMNS, rows, right=_RIGHT)
    for kind, found in measured.found.items():
        if remark := _remark(NAMES[kind], found, max_error):
            output.say(remark, style="yellow")
    output.say(
        f"Of the answers that stay at most {max_error:.1%} are wrong, with 95 % certainty, on texts like "
        "these; the others go to the strong model, question by question.",
        style="dim",
    )


def _row(name: str, found: Found) -> tuple[str, ...]:
    if found.bound is None:
        return (name, f"{found.labels:,}", "-", "all", "-", "-")
    if found.bound >= NONE_STAYS:
        return (name, f"{found.labels:,}", "never", "0.0%", "-", "-")
    return (
        name,
        f"{found.labels:,}",
        f"{found.bound:.2f}",
        f"{found.kept / found.labels:.1%}",
        f"{found.wrong / found.kept:.1%}",
        "-" if found.upper is None else f"{found.upper:.1%}",
    )


def _remark(name: str, found: Found, max_error: float) -> str:
    """Why nothing is promised, where it is so."""
    if found.bound is None:
        return (
            f"{name}: {found.missing} labels are missing for that promise, if the model errs in none of "
            "them; until then all of its answers stay"
        )
    if found.bound < NONE_STAYS:
        return ""
    if found.missing:
        return f"{name}: about {found.missing} labels are missing for that promise; until then none stays"
    return f"{name}: it is wrong more often than {max_error:.1%} even where it is surest, so none stays"


def replay_decisions(session: Session, config: Config) -> None:
    """Coverage and error of the bounds in force and of others, as measured last; no model answers."""
    from edge_router.cli.building import weights_key
    from edge_router.thresholds.question_bounds import find

    measured = find(session.paths, weights_key(config, session.paths))
    if measured is None:
        again = session.command("calibrate", "--decisions", "FILE")
        raise CannotCalibrate(config.weak.model, f"nothing was measured of it yet: {again}")
    if session.json:
        output.write_json({**measured.to_dict(), "replay": _replayed(measured)})
        return
    rows = [
        (NAMES[row["type"]], _bound(row["bound"]), f"{row['stay']:.1%}", _share(row["wrong"]), _mark(row))
        for row in _replayed(measured)
    ]
    output.table(("type", "sure from", "stay here", "of these wrong", "in force"), rows, right=_RIGHT)


def _replayed(measured: Measured) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for kind, of_kind in measured.found.items():
        own = of_kind.bound if of_kind.bound is not None else 0.0
        for bound in sorted({*STEPS, own}):
            stay, wrong = measured.at(kind, bound)
            found.append(
                {
                    "type": kind,
                    "bound": bound,
                    "stay": stay / of_kind.labels,
                    "wrong": wrong / stay if stay else None,
                    "in_force": bound == own,
                }
            )
    return found


def _bound(value: float) -> str:
    return "never" if value >= NONE_STAYS else f"{value:.2f}"


def _mark(row: dict[str, Any]) -> str:
    return "*" if row["in_force"] else ""


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
