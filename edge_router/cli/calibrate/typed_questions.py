"""`calibrate --decisions` and `replay --decisions`: how sure is sure enough, and what that keeps here."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_router.cli.chat.building import make_ready
from edge_router.cli.findings import Finding
from edge_router.cli.findings import Found as Findings
from edge_router.cli.session import Installation, Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.stderr_redirect import hushed
from edge_router.config.settings import Config
from edge_router.engines.choice import SERVED
from edge_router.errors import CannotCalibrate, EdgeRouterError
from edge_router.questions.bounds import NONE_STAYS

if TYPE_CHECKING:
    from edge_router.routing.thresholds.question_bounds import Found, MeasuredBounds

NAMES = {"yes_no": "yes or no", "choice": "choice", "scale": "scale"}
COLUMNS = ("type", "labels", "sure from", "stay here", "of these wrong", "at most")
_RIGHT = COLUMNS[1:]
MOST_WRONG = 0.05  # of the answers that stay
STEPS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)  # bounds that replay shows beside the one in force


def calibrate_decisions(
    session: Session, config: Config, file: Path | None, *, max_error: float | None, yes: bool
) -> None:
    """Raises `InvalidLabels` for a file that holds none, `CannotCalibrate` for a model that was not built
    here or answers no typed questions."""
    if file is None:
        raise typer.BadParameter("--max-error belongs to --decisions FILE")
    max_error = MOST_WRONG if max_error is None else max_error
    from edge_router.labelling.labelled_questions import read_labelled
    from edge_router.labelling.weak_calibrations import calibrate_questions

    labelled = read_labelled(file)
    make_ready(session, config, yes=yes)
    with hushed():
        measured = calibrate_questions(
            labelled, config, max_error=max_error, paths=session.paths, progress=session.progress
        )
    if session.json:
        output.write_json(measured.to_dict())
        return
    rows = [_row(NAMES[kind], found) for kind, found in measured.found.items()]
    output.table(COLUMNS, rows, right=_RIGHT)
    for kind, found in measured.found.items():
        if remark := _remark(NAMES[kind], found, max_error):
            output.say(remark, style="yellow")
    if promised := _promised(measured):
        goes_on = config.has_strong or config.questions.base_url is not None
        others = "go on, question by question" if goes_on else "stay, too, while there is no strong model"
        output.say(
            f"{promised}: of the answers that stay at most {max_error:.1%} are wrong, with 95 % certainty, "
            f"on texts like these; the others {others}.",
            style="dim",
        )


def _promised(measured: MeasuredBounds) -> str:
    """The types for which anything is."""
    return ", ".join(NAMES[kind] for kind, found in measured.found.items() if found.upper is not None)


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
    from edge_router.routing.thresholds.question_bounds import find

    measured = find(session.paths, _weights(session, config))
    if measured is None:
        again = session.command("calibrate", "--decisions", "FILE")
        raise typer.BadParameter(
            f"how sure {config.weak.model} must be was not measured yet; do that with: {again}"
        )
    if session.json:
        texts, gone_on = _in_ledger(session)
        traffic = {"texts": texts, "gone_on_in_part": gone_on}
        output.write_json({**measured.to_dict(), "replay": _replayed(measured), "ledger": traffic})
        return
    rows = [
        (NAMES[row["type"]], _bound(row["bound"]), f"{row['stay']:.1%}", _share(row["wrong"]), _mark(row))
        for row in _replayed(measured)
    ]
    output.table(("type", "sure from", "stay here", "of these wrong", "in force"), rows, right=_RIGHT)
    texts, gone_on = _in_ledger(session)
    if texts:
        output.say(f"of {texts:,} texts in the ledger {gone_on:,} went on with some of their questions")


def _weights(site: Installation, config: Config) -> str:
    """The key of those in use. Raises what keeps them from being known."""
    from edge_router.cli.chat.building import weights_key

    if config.weak.engine != SERVED:
        return weights_key(config, site.paths)
    with closing(site.pool(config)) as loaded, hushed():  # the server tells which they are
        found = loaded.weak().capabilities.weights
    if found is None:
        raise CannotCalibrate(config.weak.model, "its server does not tell which weights it has")
    return found


def _in_ledger(session: Session) -> tuple[int, int]:
    """How many texts the weak model was asked about, and how many went on with what it was unsure of:
    each model that is asked has a row."""
    from edge_router.ledger import Ledger
    from edge_router.types import Reason

    records = Ledger(session.paths.ledger).records()
    asked = (Reason.CONFIDENCE, Reason.UNCALIBRATED)
    models = [each.decision.model for each in records if each.decision.reason in asked]
    return models.count("weak"), models.count("strong")


def _replayed(measured: MeasuredBounds) -> list[dict[str, Any]]:
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


def check(site: Installation, config: Config) -> Findings:
    """What `doctor` tells of typed questions."""
    from edge_router.routing.thresholds.question_bounds import find

    section = "Typed questions"
    try:
        measured = find(site.paths, _weights(site, config))
    except EdgeRouterError:  # told with the model
        measured = None
    if measured is None:
        again = site.command("calibrate", "--decisions", "FILE")
        yield Finding(
            section, "sure enough", f"all answers stay; how sure is sure enough is found by: {again}"
        )
    else:
        most = measured.max_error
        bounds = [f"{NAMES[kind]} {_from(found.bound, most)}" for kind, found in measured.found.items()]
        yield Finding(section, "sure enough", ", ".join(bounds))
    yield from _endpoint(section, site, config)


def _from(bound: float | None, max_error: float) -> str:
    if bound is None:
        return "always (too few labels)"
    return "never" if bound >= NONE_STAYS else f"from {bound:.2f} (of these at most {max_error:.1%} wrong)"


def _endpoint(section: str, site: Installation, config: Config) -> Findings:
    from edge_router.engines.remote.endpoint import Endpoint
    from edge_router.engines.remote.question_endpoint import ways_here

    own = config.questions
    if own.base_url is None:
        where = "to the strong model, in words" if config.has_strong else "nowhere: there is no strong model"
        yield Finding(section, "others", where)
        return
    place = Endpoint.parse(own.base_url, "questions.base_url")
    where = f"{own.model} at {place.url} ({own.protocol})"
    if not own.local:
        yield Finding(section, "others", f"to {where}")
    elif ways_here(own, place):
        yield Finding(section, "others", f"to {where}, which gets private ones, too: it is on this machine")
    else:
        mend = site.command("config", "set", "questions.local=false")
        yield Finding(section, "others", f"nowhere: {where} is on another machine; {mend}", "bad")
    if own.api_key_env and not os.environ.get(own.api_key_env):
        lacks = f"{own.api_key_env} is not set; if the keyring has no key by that name, set it"
        yield Finding(section, "key", lacks, "note")
