"""`edge-router cache`: answers that are given again, where they are kept on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.findings import Finding, Found
from edge_router.cli.session import Installation, Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.confirming import confirmed
from edge_router.cli.terminal.failures import told
from edge_router.errors import InvalidData, StorageError

if TYPE_CHECKING:
    from edge_router.config.settings import Config
    from edge_router.response_cache.store import AnswerStore, Entry

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
KEY = 12  # characters of a key that are shown
SWITCH_ON = ("config", "set", "response_cache.mode=disk")


@app.callback()
def cache() -> None:
    """Answers that are given again to who asks the same (response_cache.mode = "disk")."""


@app.command("list")
def list_(ctx: typer.Context, json: Json = False) -> None:
    """Every answer that may be given again, the last asked for first."""
    session = Session(ctx, json=json)
    with _opened(session) as store:
        entries = store.entries()
    if json:
        output.write_json({"answers": [_facts(entry) for entry in entries], "file": str(store.file)})
        return
    if not entries:
        output.say(f"No answer is kept; {_advice(session, session.config())}.")
        return
    rows = [
        (
            *(entry.key[:KEY], entry.model, entry.tier, entry.caller or "-", str(entry.hits)),
            *(output.ago(entry.time), output.ago(entry.used), output.size(entry.bytes)),
        )
        for entry in entries
    ]
    columns = ("key", "model", "tier", "caller", "given again", "made", "asked for", "size")
    output.table(columns, rows, right=("given again", "size"))
    hits = sum(entry.hits for entry in entries)
    size = output.size(sum(entry.bytes for entry in entries))
    answers = f"{len(entries):,} answer{'' if len(entries) == 1 else 's'}"
    output.say(f"{answers}, given again {hits:,} time{'' if hits == 1 else 's'}, {size}", style="dim")


@app.command()
def show(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The beginning of its key.", show_default=False)],
    json: Json = False,
) -> None:
    """One answer as it was given. The question is not kept."""
    session = Session(ctx, json=json)
    from edge_router.chat.reply import collect

    with _opened(session) as store:
        found = store.named(key)
    if len(found) != 1:
        listed = session.command("cache", "list")
        many = f"{len(found)} answers have keys that begin with" if found else "no answer has a key like"
        raise typer.BadParameter(f"{many} {key!r}; see what is there: {listed}")
    (entry,) = found
    reply = collect(entry.events())
    if json:
        output.write_json({**_facts(entry), "text": reply.text, "finish_reason": reply.finish_reason})
        return
    output.write(f"{reply.text}\n")
    again = f"given again {entry.hits} time{'' if entry.hits == 1 else 's'}"
    output.say(f"{entry.model} ({entry.tier}): made {output.ago(entry.time)}, {again}", style="dim")


@app.command()
def clear(
    ctx: typer.Context,
    caller: Annotated[str | None, typer.Option(metavar="NAME", help="Only what this caller asked.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget kept answers; their bytes are overwritten. A damaged file is removed."""
    session = Session(ctx)
    with closing(_store(session)) as store:
        try:
            count = store.totals().answers
        except InvalidData as error:
            output.say(f"{store.file} {error.reason}", style="yellow")
            count = None
        if count == 0:
            output.say("No answer is kept.")
            return
        whose = "" if caller is None else f" those that {caller} asked for among"
        what = "the damaged file" if count is None else f"{whose} {count:,} kept answers".strip()
        if confirmed(f"Remove {what}?", yes=yes):
            output.say(f"Removed {store.clear(caller=caller) if count is not None else _damaged(store)}.")


def _damaged(store: AnswerStore) -> str:
    store.clear()
    return "the damaged file"


def check(site: Installation, config: Config) -> Found:
    """What `doctor` tells of it."""
    section, name, settings = "Privacy", "response cache", config.response_cache
    with closing(_store(site)) as store:
        try:
            kept = store.totals()
        except (InvalidData, StorageError) as error:
            mend = f"{told(error)}; answers are made anew until then: {site.command('cache', 'clear')}"
            yield Finding(section, name, mend, "note")
            return
    answers = f"{kept.answers:,} answer{'' if kept.answers == 1 else 's'}"
    there = f"{answers} in {store.file}, {output.size(kept.bytes)}, given again {kept.hits:,} times"
    if settings.mode == "disk":
        yield Finding(section, name, there)
    elif kept.answers:
        mend = f"{settings.mode}, and {there}; forget them with: {site.command('cache', 'clear')}"
        yield Finding(section, name, mend, "note")
    else:
        words = {"off": "off: no answer is kept", "memory": "in memory, until the program ends"}
        yield Finding(section, name, words[settings.mode])


@contextmanager
def _opened(session: Session) -> Iterator[AnswerStore]:
    """Ends the program with what mends it where the file is damaged."""
    with closing(_store(session)) as store:
        try:
            yield store
        except InvalidData as error:
            output.say(
                f"{store.file} {error.reason}; remove it: {session.command('cache', 'clear')}", style="red"
            )
            raise typer.Exit(1) from error


def _store(site: Installation) -> AnswerStore:
    """Of the file, whatever the mode is."""
    from dataclasses import replace

    from edge_router.control.response_cache import store_of

    return store_of(replace(site.config().response_cache, mode="disk"), site.paths)


def _advice(session: Session, config: Config) -> str:
    if config.response_cache.mode == "disk":
        asked = (
            "of what is asked with a temperature of 0" if not config.response_cache.sampled else "once asked"
        )
        return f"one is kept {asked}: {session.command('chat', '--temperature', '0')}"
    if config.response_cache.mode == "memory":
        return "they are in the memory of the program that answers"
    return f"switch it on with: {session.command(*SWITCH_ON)}"


def _facts(entry: Entry) -> dict[str, object]:
    return {
        "key": entry.key,
        "model": entry.model,
        "tier": entry.tier,
        "endpoint": entry.endpoint,
        "caller": entry.caller or None,
        "made": entry.time,
        "asked_for": entry.used,
        "hits": entry.hits,
        "bytes": entry.bytes,
        "age_s": round(max(0.0, time.time() - entry.time), 3),
    }
