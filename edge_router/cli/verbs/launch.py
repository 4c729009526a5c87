"""`edge-router launch`: another program that asks this server, its files untouched unless one says so."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer

from edge_router.cli import runtime_file
from edge_router.cli.chat.building import make_ready
from edge_router.cli.launch import clients, shells
from edge_router.cli.launch.client_files import Unmergeable, merged, save
from edge_router.cli.launch.clients import CLIENTS, Client, Target
from edge_router.cli.launch.shells import Shell
from edge_router.cli.session import Session, nearest, server_key
from edge_router.cli.terminal import output
from edge_router.cli.terminal.sentences import ME, quoted
from edge_router.cli.verbs import launching
from edge_router.config.settings import Config
from edge_router.errors import ClientNotConfigured, InvalidClientFile, UnknownModel
from edge_router.system.disk import storage_errors

app = typer.Typer(add_completion=False, rich_markup_mode=None)

NOT_FOUND = 127  # what shells say of a program that is not there
_MODEL = re.compile(r"[A-Za-z0-9][\w./:@+-]*", re.ASCII)


@app.command()
def launch(
    ctx: typer.Context,
    client: Annotated[
        str | None, typer.Argument(metavar="CLIENT", help="Such as claude; without, all are listed.")
    ] = None,
    own: Annotated[
        list[str] | None, typer.Argument(metavar="-- ARGUMENT", help="What the client itself is told.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME", help="auto, weak, strong or a router-...")
    ] = "auto",
    serve: Annotated[
        bool, typer.Option("--serve", help="Where no server answers, start one that ends with the client.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch and build what that one lacks.")] = False,
    print_: Annotated[
        bool, typer.Option("--print", help="Only print the lines for a shell that start it so.")
    ] = False,
    shell: Annotated[Shell | None, typer.Option(help="Which one; by default this system's.")] = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Only write it into the client's own file; a copy is kept."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Only print it, as a JSON object.")] = False,
) -> None:
    """Start another program that asks this server: Claude Code, Codex, opencode and others.

    It is told so by its environment and arguments; its files stay as they are without --write. The server is
    the one that runs, or the configured one (server.host, server.port), which --write goes by; its key is
    taken from the environment and shown nowhere.
    """
    session = Session(ctx, json=json)
    if client is None:
        return _list(session)
    if write and (print_ or json or serve):
        raise typer.BadParameter("--write only writes: leave out --print, --json and --serve")
    chosen, config = clients.find(client), session.config()
    key = server_key(config)
    if not _MODEL.fullmatch(model):
        raise UnknownModel(model, clients.MODELS)
    url = _running(session) if not write else None
    target = Target(url or clients.address(config.server), model, config.server.api_key_env if key else None)
    if write:
        return _write(chosen, target, session)
    if json:
        return output.write_json(_facts(chosen, target, tuple(own or ()), session))
    program = shutil.which(chosen.program)
    if print_ or program is None:
        _print(chosen, target, tuple(own or ()), shell or shells.usual(), session)
        if print_:
            return None
        missing = f"{chosen.title} is not here: no {chosen.program} on the PATH"
        output.say(f"error: {missing}; get it: {chosen.install}", style="red")
        raise typer.Exit(NOT_FOUND)
    _check_file(chosen, target)
    code = _start(chosen, target, program, tuple(own or ()), session, config, serve=serve, yes=yes)
    raise typer.Exit(code)


def _running(session: Session) -> str | None:
    """Where this user's server listens; None where none runs, or another one is named."""
    if any(name.startswith("server.") for name in session.options.settings):
        return None
    found = runtime_file.running()
    return None if found is None else found.url


def _list(session: Session) -> None:
    found = {client.name: shutil.which(client.program) for client in CLIENTS}
    if session.json:
        names = ("name", "title", "install")
        output.write_json(
            [{**{key: getattr(one, key) for key in names}, "program": found[one.name]} for one in CLIENTS]
        )
        return
    rows = [(one.name, one.title, found[one.name] or f"- ({one.install})") for one in CLIENTS]
    output.table(("client", "is", "program"), rows)
    if not session.options.quiet:
        some = next((one.name for one in CLIENTS if found[one.name]), CLIENTS[0].name)
        output.say(f"Start one: {session.command('launch', some)}", style="dim")


def _start(
    client: Client,
    target: Target,
    program: str,
    own: tuple[str, ...],
    session: Session,
    config: Config,
    *,
    serve: bool,
    yes: bool,
) -> int:
    key, variable = server_key(config), config.server.api_key_env
    try:
        contexts = launching.models_at(target.url, key, variable, client.name)
    except launching.NobodyThere:
        if not serve:
            raise
    else:
        _told(client, target, contexts, session)
        return launching.become(program, *_given(client, target, own, key))
    make_ready(session, config, yes=yes)
    code: int | None = None
    try:
        with launching.serving(session.controller(config), key):
            _told(client, target, launching.models_at(target.url, key, variable, client.name), session)
            code = launching.run(program, *_given(client, target, own, key))
    except launching.Busy:
        output.leave(code or 0)
    return code or 0


def _given(
    client: Client, target: Target, own: tuple[str, ...], key: str | None
) -> tuple[list[str], Mapping[str, str]]:
    """Arguments and environment."""
    kept = {name: value for name, value in os.environ.items() if name not in client.without}
    secret = {client.key_variable: key or clients.NO_KEY} if client.key_variable else {}
    given = clients.variables(client, target, os.environ)
    return clients.arguments(client, target, os.environ, own), {**kept, **given, **secret}


def _told(client: Client, target: Target, contexts: launching.Contexts, session: Session) -> None:
    """Says where it will ask. Raises `UnknownModel`."""
    if target.model not in contexts and not target.model.startswith("router-"):
        names = tuple(contexts)
        raise UnknownModel(target.model, names, nearest(target.model, names))
    if session.options.quiet:
        return
    output.say(f"{client.title} asks {target.url} (model {target.model}).", style="dim")
    context = contexts.get(target.model)
    if context is not None and client.prompt_tokens >= context:
        widen = session.command("config", "set", f"weak.context_window_size={_roomier(client)}")
        output.say(
            f"warning: {client.title} begins with some {client.prompt_tokens:,} tokens of its own, and "
            f"{target.model} takes {context:,}; configure a strong model, or widen the window: {widen}",
            style="yellow",
        )


def _roomier(client: Client) -> int:
    """A power of two with as much again for the conversation."""
    return 1 << (2 * client.prompt_tokens).bit_length()


def _copied(client: Client, target: Target) -> dict[str, str]:
    """The variable for the key, and the one that holds it."""
    return {client.key_variable: target.key_env} if client.key_variable and target.key_env else {}


def _keyless(client: Client, target: Target) -> dict[str, str]:
    return {client.key_variable: clients.NO_KEY} if client.key_variable and not target.key_env else {}


def _print(client: Client, target: Target, own: tuple[str, ...], shell: Shell, session: Session) -> None:
    copied = _copied(client, target)
    program = [client.program, *clients.arguments(client, target, os.environ, own)]
    lines = shells.lines(
        shell,
        variables={**clients.variables(client, target, os.environ), **_keyless(client, target)},
        copied=copied,
        removed=[name for name in client.without if name not in copied],
        commands=[*_writing(client, target, session), program],
    )
    output.write("".join(f"{line}\n" for line in lines))


def _writing(client: Client, target: Target, session: Session) -> list[list[str]]:
    """What has to be run before a client that is told an address by its file only."""
    if client.file is None or not client.file.needed:
        return []
    settings = [f"--set={key}={value}" for key, value in session.options.settings.items()]
    config = [] if session.options.config is None else ["--config", str(session.options.config.absolute())]
    return [[ME, "launch", client.name, "--model", target.model, "--write", *settings, *config]]


def _facts(client: Client, target: Target, own: tuple[str, ...], session: Session) -> dict[str, object]:
    file = clients.place(client, os.environ)
    return {
        "name": client.name,
        "title": client.title,
        "program": shutil.which(client.program),
        "install": client.install,
        "url": target.url,
        "variables": {**clients.variables(client, target, os.environ), **_keyless(client, target)},
        "copied": _copied(client, target),
        "removed": list(client.without),
        "before": _writing(client, target, session),
        "command": [client.program, *clients.arguments(client, target, os.environ, own)],
        "file": None if file is None else str(file),
    }


def _write(client: Client, target: Target, session: Session) -> None:
    file = clients.place(client, os.environ)
    if file is None:
        raise typer.BadParameter(
            f"{client.title} has no file for this; print what it has to be told: "
            f"{session.command('launch', client.name, '--print')}"
        )
    with _unchanged(client, target) as (before, new):
        backup = None if before == new else save(file, new)
    output.write(f"{file}\n")
    if session.options.quiet:
        return
    if before == new:
        output.say("It says so already.", style="dim")
    elif backup is not None:
        output.say(f"What was there before is in {backup}.", style="dim")
    for name, other in _copied(client, target).items():
        output.say(f"It takes the key from {name}: set that to what {other} holds.", style="yellow")
    command = " ".join(map(quoted, clients.started(client, target, os.environ)))
    output.say(f"Start it: {command}", style="dim")


@contextmanager
def _unchanged(client: Client, target: Target) -> Iterator[tuple[bytes | None, bytes]]:
    """The client's file as it is and as it is to be. Raises `InvalidClientFile`, `StorageError`."""
    file = clients.place(client, os.environ)
    assert file is not None
    with storage_errors(file.parent):
        before = file.read_bytes() if file.exists() else None
        content = clients.content(client, target, os.environ)
        try:
            new = merged(before, content, elsewhere=client.without)
        except Unmergeable as error:
            raise InvalidClientFile(client.name, file, str(error)) from error
        yield before, new


def _check_file(client: Client, target: Target) -> None:
    """Raises `ClientNotConfigured` for a client that is told by its file only, which says nothing of this."""
    if client.file is None or not client.file.needed:
        return
    with _unchanged(client, target) as (before, new):
        if before != new:
            raise ClientNotConfigured(client.name, client.file.place(os.environ))
