"""`edge-router replay`: what another threshold would have done with the traffic so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.calibrate.typed_questions import replay_decisions
from edge_router.cli.session import Session
from edge_router.cli.terminal import output

if TYPE_CHECKING:
    from edge_router.ledger import Record
    from edge_router.routing.thresholds.replay import Replay, Spared

app = typer.Typer(add_completion=False, rich_markup_mode=None)

NUMBERS = ("to the strong model", "share", "cost")
SHOWN = 60  # characters of a prompt in the list


@app.command()
def replay(
    ctx: typer.Context,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            min=0,
            max=1,
            help="Scores from there on go to the strong model. Default: as it is now.",
        ),
    ] = None,
    router: Annotated[str | None, typer.Option(metavar="NAME", help="Another router's answers.")] = None,
    caller: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what that caller has asked.")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Only the last so many days.")] = None,
    moved: Annotated[
        int, typer.Option(metavar="N", min=0, help="List up to N answers that would have moved.")
    ] = 0,
    decisions: Annotated[
        bool,
        typer.Option("--decisions", help="Of typed questions: what stays, and what is wrong of it."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """What another threshold would have done with what the ledger holds; no model answers.

    Where there are more than two models (tiers) their shares are told, too, as they were and as the tiers are
    set now.

    Money needs the strong model's prices: strong.price_in and strong.price_out, of a million tokens. What an
    answer of the weak model would have cost is an estimate from its own token counts.

    With --decisions: how many answers to typed questions would stay from which confidence on, and how many of
    these were wrong, when `calibrate --decisions` last asked.
    """
    session = Session(ctx, json=json)
    config = session.config(router__name=router)
    if decisions:
        replay_decisions(session, config)
        return
    from edge_router.api import replays
    from edge_router.ledger import NothingRecorded

    try:
        replayed = replays.replay(threshold, config, caller=caller, days=days, paths=session.paths)
    except NothingRecorded as error:
        raise typer.BadParameter(f"{error}; {session.to_fill_the_ledger(config)}") from error
    except replays.NoThreshold as error:
        raise typer.BadParameter(f"{error}: --threshold 0.3") from error
    found, counts, again = replayed.found, replayed.tiers, replayed.given_again
    if json:
        listed = [_facts(record) for record in (*found.to_strong, *found.to_weak)[:moved]]
        output.write_json({**replayed.to_dict(), **({"moved": listed} if moved else {})})
        return
    _show(found)
    if counts:
        rows = [(name, f"{was:,}", f"{then:,}") for name, (was, then) in counts.items()]
        output.table(("model", "as it was", "by the tiers"), rows, right=("as it was", "by the tiers"))
    _show_sessions(found.sessions)
    if again.answers:
        cost = "" if again.cost is None else f", which would have cost {again.cost:.4f}"
        words = f"{again.answers:,} more were given again, {again.strong:,} of them the strong model's{cost}"
        output.say(f"{words}; see them with: {session.command('cache', 'list')}")
    _list(found, moved)
    if not replayed.priced:
        output.say("Set strong.price_in and strong.price_out to see what it costs.", style="dim")
    elif found.unpriced:
        output.say(f"{found.unpriced} answers without token counts are not in the cost.", style="dim")


def _show(found: Replay) -> None:
    pairs = [("as it was", found.before), (f"from {found.threshold:g} on", found.after)]
    rows = [
        (name, f"{sums.strong:,}", f"{sums.strong / found.n:.1%}", _money(sums.cost)) for name, sums in pairs
    ]
    output.table(("", *NUMBERS), rows, right=NUMBERS)
    output.say(
        f"{found.n:,} answers: {len(found.to_strong):,} would move to the strong model, "
        f"{len(found.to_weak):,} to the weak one; in {found.kept:,} the score did not decide"
    )


def _show_sessions(spared: Spared) -> None:
    if spared.switches:
        cost = "" if spared.cost is None else f", which would have cost {spared.cost:.4f}"
        times = "once" if spared.switches == 1 else f"{spared.switches:,} times"
        output.say(
            f"conversations stayed with their model {times} where the score alone would have asked the other "
            f"one: {spared.tokens:,} tokens not read again{cost}"
        )


def _list(found: Replay, count: int) -> None:
    records = (*found.to_strong, *found.to_weak)[:count]
    if records:
        rows = [(str(r.id), _other(r), f"{r.decision.score or 0:.3f}", _line(r.prompt)) for r in records]
        output.write("\n")
        output.table(("id", "would go to", "score", "prompt"), rows, right=("id", "score"))


def _facts(record: Record) -> dict[str, object]:
    return {"id": record.id, "to": _other(record), "score": record.decision.score, "prompt": record.prompt}


def _other(record: Record) -> str:
    return "weak" if record.decision.model == "strong" else "strong"


def _line(prompt: str | None) -> str:
    return " ".join((prompt or "-").split())[:SHOWN]


def _money(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:.4f}"
