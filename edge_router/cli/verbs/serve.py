"""`edge-router serve`: the server, which speaks every protocol of `surfaces`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edge_router.cli.chat.building import make_ready
from edge_router.cli.request_log import RequestLog
from edge_router.cli.session import Session, choose_model, server_key
from edge_router.cli.terminal import output
from edge_router.cli.terminal.sentences import sentence
from edge_router.config.settings import Config
from edge_router.errors import EdgeRouterError, PortInUse
from edge_router.system.disk import storage_errors
from edge_router.system.paths import Paths
from edge_router.system.rotating_file import RotatingFile

if TYPE_CHECKING:
    from edge_router.cli.chat.door import ResidentDoor
    from edge_router.server.dashboard.dashboard import Dashboard

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="Another weak model than the configured one."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use no network at all.")] = False,
    device: Annotated[str | None, typer.Option(help="Where the weak model runs.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the weak model.")] = None,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Say it there, not on stderr; it stays small."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch and build what is missing.")] = False,
    dashboard: Annotated[bool, typer.Option(help="A page at / that shows what goes where.")] = True,
) -> None:
    """A server on this machine for OpenAI's, Anthropic's and Ollama's clients: 127.0.0.1:6060.

    A key is asked of clients when one stands in EDGE_ROUTER_API_KEY (or the variable named by
    server.api_key_env) or callers have keys of their own (`edge-router keys new NAME`); one has to be for any
    address that other machines can reach. Settings are read at the start only,
    your own rules (rules.toml) again once they have changed. Each answer is told in a line on stderr, without
    a word of its text; --quiet keeps silent.
    """
    if log is not None:
        with storage_errors(log.parent):
            sys.stderr = RotatingFile(log)
    session = Session(ctx)
    from edge_router.cli.chat.door import ResidentDoor

    door = ResidentDoor(session)
    config = session.config(
        server__host=host, server__port=port, offline=offline, weak__device=device, weak__threads=threads
    )
    if model is not None:
        config, _ = choose_model(model, config, ())
    key = server_key(config)
    from edge_router.callers.keys import KeyRing
    from edge_router.server.http.listen import OLLAMA_PORT, bind
    from edge_router.server.serve import run

    def try_port() -> None:
        has_key = KeyRing.of(config.callers, owner=key).demanded
        bind(config.server.host, config.server.port, has_key=has_key).close()
        if config.server.ollama_port is not None:
            bind(config.server.host, config.server.ollama_port, has_key=has_key, setting=OLLAMA_PORT).close()

    with _told_if_ours():
        make_ready(session, config, yes=yes, before=try_port)
    controller = session.controller(config)

    requests = None if session.options.quiet else RequestLog(dated=not sys.stderr.isatty())
    page = _dashboard(session, door) if dashboard and config.server.dashboard else None

    def ready(url: str) -> None:
        door.open(controller, url)
        _ready(url, config, session)
        if page is not None:
            door.page(page.link(url))
            if not session.options.quiet:
                _opens(page.link(url), session)
        if requests is not None:
            controller.recorder.watch(requests.tell)

    try:
        with _told_if_ours():
            closed = run(controller, api_key=key, on_ready=ready, on_waiting=_waiting, dashboard=page)
    finally:
        door.close()
        if requests is not None:
            requests.close()
    if not closed:
        _leave()


@contextmanager
def _told_if_ours() -> Iterator[None]:
    """Where a port is in use by a server of this user's, that is said."""
    try:
        yield
    except PortInUse as error:
        from edge_router.cli.runtime_file import running

        found = running()
        if found is not None and found.url.endswith(f":{error.port}"):
            began = output.ago(found.started)
            output.say(f"A server of yours runs at {found.url} already: process {found.pid}, begun {began}.")
        raise


def _dashboard(session: Session, door: ResidentDoor) -> Dashboard:
    """What it writes, `config set` would write so, too; its next link is for `edge-router dashboard`."""
    from edge_router.cli.verbs.configuration import write
    from edge_router.server.dashboard.dashboard import Dashboard
    from edge_router.server.dashboard.data_routes import SavedSettings

    def save(values: Mapping[str, object]) -> SavedSettings:
        written = write(values, session)
        kept = () if written.backup is None else (f"What was there before is in {written.backup}.",)
        return SavedSettings(written.file, (*written.notes, *kept))

    return Dashboard(save=save, renewed=door.page)


def _opens(link: str, session: Session) -> None:
    """In a log, which others may read, the link has no place."""
    if sys.stderr.isatty():
        output.say(f"The dashboard opens with this link, once: {link}")
    else:
        output.say(f"The dashboard opens with a link, which this prints: {session.command('dashboard')}")


def _waiting(error: EdgeRouterError) -> None:
    output.say(f"warning: {sentence(error)}; it is taken as soon as it is there", style="yellow")


def _leave() -> NoReturn:
    """End the process now: what the model's thread still computes is for nobody, and may take a minute."""
    logging.shutdown()
    output.leave(0)


def _ready(url: str, config: Config, session: Session) -> None:
    if session.options.quiet:
        return
    strong = config.strong_title or "none"
    if config.questions.base_url is not None:
        strong += f", for typed questions: {config.questions.model}"
    theirs = config.server.ollama_port
    too = f" and, as Ollama would, on {url.rpartition(':')[0]}:{theirs}" if theirs is not None else ""
    output.say(f"Listening on {url}/v1{too} (weak: {config.weak.model}, strong: {strong}). Ctrl-C stops it.")
    if words := _drift(config, session.paths):
        output.say(f"warning: {words}", style="yellow")


def _drift(config: Config, paths: Paths) -> str | None:
    from edge_router.cli.chat.reasons import drift_words
    from edge_router.routing.thresholds.drift import current_drift

    try:
        found = current_drift(config, paths)
    except EdgeRouterError:
        return None  # a ledger that cannot be read is told where it is used
    return drift_words(found) if found is not None else None
