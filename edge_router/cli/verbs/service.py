"""`edge-router service`: the server as a program that runs from login on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli import runtime_file
from edge_router.cli.chat.building import make_ready
from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.config.settings import keys
from edge_router.config.variables import variable_of
from edge_router.system.background_service import WRONG, Program, Service, Step, service_for
from edge_router.system.disk import storage_errors
from edge_router.system.paths import HOME_VARIABLE

if TYPE_CHECKING:
    from edge_router.config.settings import Config

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

NAME, TITLE = "edge-router", "edge_router: answers on this machine"
_PLACES = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")
_NOT_RUNNING = 1
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)

Run = Callable[[Step], "subprocess.CompletedProcess[str]"]


@app.callback()
def service() -> None:
    """A server that runs from login on, by systemd, launchd or Windows' Task Scheduler."""


@app.command()
def install(
    ctx: typer.Context,
    print_: Annotated[
        bool, typer.Option("--print", help="Only print what the system would be told, and where.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch and build what is missing.")] = False,
) -> None:
    """Start `edge-router serve` now and at every login, with your settings; again: with the new ones.

    The variables of this shell that are settings go along, and no others: no key is written anywhere. What
    it says goes to serve.log, in files that stay small (`edge-router service status` has the path).
    """
    session = Session(ctx)
    config = session.config()
    found = found_service(session)
    content = _content(found)
    if print_:
        output.write(f"# {found.file}\n{_text(found, content)}")
        for step in found.install:
            output.write(f"# {subprocess.list2cmdline(step.words)}\n")
        return
    _check(found)
    make_ready(session, config, yes=yes)
    with storage_errors(found.file.parent):
        found.file.parent.mkdir(parents=True, exist_ok=True)
        found.file.unlink(missing_ok=True)
        with os.fdopen(os.open(found.file, _NEW, 0o600), "wb") as file:  # an address may hold a password
            file.write(content)
    carry_out(found.install, run)
    output.say(f"{NAME} serves from now on, and from each login ({found.system}: {found.file}).")
    for words in _left_out(config):
        output.say(f"warning: {words}", style="yellow")
    output.say(f"See how it is: {session.command('service', 'status')}", style="dim")


@app.command()
def status(
    ctx: typer.Context, json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False
) -> None:
    """Whether it is installed and a server runs, and where; the exit code is 1 where none runs."""
    session = Session(ctx, json=json)
    found, server, log = found_service(session), runtime_file.running(), session.paths.log
    installed = found.file.exists()
    if json:
        running = server and {"url": server.url, "pid": server.pid, "started": server.started}
        facts = {"system": found.system, "installed": installed, "file": str(found.file)}
        output.write_json({**facts, "running": running, "log": str(log)})
    else:
        there = str(found.file) if installed else f"no; {session.command('service', 'install')}"
        began = "" if server is None else f" (process {server.pid}, begun {output.ago(server.started)})"
        rows = (
            ("installed", there),
            ("running", "no" if server is None else f"{server.url}{began}"),
            ("log", str(log) if log.exists() else f"{log}, not written yet"),
        )
        for name, value in rows:
            output.write(f"{name.ljust(11)}{value}\n")
    if server is None:
        raise typer.Exit(_NOT_RUNNING)


@app.command()
def remove(ctx: typer.Context) -> None:
    """End the service, and start it at no login any more. Models, settings and the ledger stay."""
    session = Session(ctx)
    found = found_service(session)
    if not found.file.exists():
        output.say("No service is installed.")
        return
    take_away(found, run)
    output.say(f"Removed {found.file}; nothing is started at login any more.")


def take_away(found: Service, run: Run) -> None:
    """Ends and removes it. Raises `StorageError`."""
    carry_out(found.remove, run)
    with storage_errors(found.file.parent):
        found.file.unlink(missing_ok=True)
    carry_out(found.after, run)


def carry_out(steps: Iterable[Step], run: Run) -> None:
    """One after the other; ends the program where one that is needed fails."""
    for step in steps:
        done = run(step)
        if done.returncode and step.needed:
            said = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
            output.say(f"error: {subprocess.list2cmdline(step.words)}: {said}", style="red")
            raise typer.Exit(1)


def run(step: Step) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            step.words,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except OSError as error:
        return subprocess.CompletedProcess(step.words, 127, "", error.strerror or str(error))


def _check(found: Service) -> None:
    """Whether this system keeps programs for this user; ends in what to do where it does not."""
    done = run(found.check)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        output.say(
            f"error: {found.system} keeps no programs for you here ({said}); start it by hand: "
            f"edge-router serve",
            style="red",
        )
        raise typer.Exit(1)


def found_service(session: Session) -> Service:
    program = Program(NAME, TITLE, _arguments(session), Path.home(), _variables(os.environ))
    return service_for(sys.platform, program, home=Path.home(), environ=os.environ, user=_user(os.environ))


def _arguments(session: Session) -> tuple[str, ...]:
    """Of the interpreter. -P: what lies in the folder that it runs in is not ours."""
    python = Path(sys.executable)
    windowless = python.with_name("pythonw.exe")
    if sys.platform == "win32" and windowless.exists():
        python = windowless
    options = session.options
    config = () if options.config is None else ("--config", str(options.config.absolute()))
    settings = [word for name, value in options.settings.items() for word in ("--set", f"{name}={value}")]
    log = str(session.paths.log)
    return (str(python), "-P", "-m", "edge_router", "serve", "--log", log, *config, *settings)


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Those of this shell that tell where files are and how things are set: keys may have any other name."""
    ours = {*_PLACES, HOME_VARIABLE, *map(variable_of, keys())}
    return {name: value for name, value in sorted(environ.items()) if name in ours}


def _left_out(config: Config) -> list[str]:
    """What a service does not see of this shell, and how it is told."""
    told = list[str]()
    key = config.server.api_key_env
    if os.environ.get(key, "").strip():
        told.append(f"it does not see {key}; give callers keys of their own: edge-router keys new NAME")
    names = {
        str(config.get(name))
        for name in keys()
        if name.endswith("api_key_env") and not name.startswith("server.") and config.get(name)
    }
    for name in sorted({*names, *(one.api_key_env for one in config.endpoints if one.api_key_env)}):
        if os.environ.get(name, "").strip():
            told.append(f"it does not see {name}; put it into the keyring: keyring set edge_router {name}")
    return told


def _user(environ: Mapping[str, str]) -> str:
    """As the system names it here: a number, or on Windows DOMAIN\\NAME."""
    if hasattr(os, "getuid"):
        return str(os.getuid())
    domain, name = environ.get("USERDOMAIN", ""), environ.get("USERNAME", "")
    return f"{domain}\\{name}" if domain else name


def _content(found: Service) -> bytes:
    """Ends the program where the settings hold what no such file can."""
    try:
        return found.content
    except ValueError as error:
        said = str(error).encode("utf-8", "backslashreplace").decode()
        output.say(f"error: {found.system} cannot be told that: {said}; set it without", style="red")
        raise typer.Exit(WRONG) from error


def _text(found: Service, content: bytes) -> str:
    encoding = "utf-16" if found.file.suffix == ".xml" else "utf-8"
    return content.decode(encoding)
