"""The command line as typer has it: the verbs and the options they share. This file only wires."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from edge_router.cli.chat import quick
from edge_router.cli.lazy import LazyGroup, Verb
from edge_router.cli.options import Options
from edge_router.cli.terminal import output

ANSWERS, MODELS, ROUTER, SETUP = "Answers", "Models", "Router", "Setup"
HERE = "edge_router.cli.verbs"

VERBS = (
    Verb("chat", ANSWERS, "One answer, or a conversation.", f"{HERE}.chat"),
    Verb("serve", ANSWERS, "A server for OpenAI's, Anthropic's and Ollama's clients.", f"{HERE}.serve"),
    Verb("dashboard", ANSWERS, "A link to the page of the server that runs.", f"{HERE}.dashboard"),
    Verb("launch", ANSWERS, "Claude Code, Codex and others, asking that server.", f"{HERE}.launch"),
    Verb("route", ANSWERS, "Where prompts would go, and why; no model answers.", f"{HERE}.route"),
    Verb("decide", ANSWERS, "Typed questions about a text, with probabilities.", f"{HERE}.decide"),
    Verb("rules", ANSWERS, "Your own rules, asked before any score: check.", f"{HERE}.rules"),
    Verb("upgrade", ANSWERS, "What the strong model was not there for, asked again.", f"{HERE}.upgrade"),
    Verb("history", ANSWERS, "What was asked, where it went and why.", f"{HERE}.history"),
    Verb("usage", ANSWERS, "How much stayed here, and what that saved.", f"{HERE}.usage"),
    Verb("plan", MODELS, "What fits into a memory budget, with which windows.", f"{HERE}.plan"),
    Verb("ps", MODELS, "What a server that runs here holds in memory.", f"{HERE}.ps"),
    Verb("models", MODELS, "Weak models: list, show, pull, verify, remove.", f"{HERE}.models"),
    Verb("compile", MODELS, "Fetch, quantize and compile a model for this machine.", f"{HERE}.build"),
    Verb("artifacts", MODELS, "What was built: list, verify, prune, clear.", f"{HERE}.artifacts"),
    Verb("evaluate", ROUTER, "How good routers are on labelled prompts.", f"{HERE}.evaluate"),
    Verb("calibrate", ROUTER, "The threshold for a given share of strong calls.", f"{HERE}.calibrate"),
    Verb("replay", ROUTER, "What another threshold would have done so far.", f"{HERE}.replay"),
    Verb("label", ROUTER, "Both models on your own prompts, judged.", f"{HERE}.label"),
    Verb("rate", ROUTER, "Thumbs up or down for answers in the ledger.", f"{HERE}.rate"),
    Verb("train", ROUTER, "Train a router and measure it.", f"{HERE}.train"),
    Verb("bench", SETUP, "Measured here: weak, router, decision, server, memory.", f"{HERE}.bench"),
    Verb("cache", SETUP, "Answers that are given again: list, show, clear.", f"{HERE}.response_cache"),
    Verb("ledger", SETUP, "The record of answers: clear.", f"{HERE}.ledger"),
    Verb("doctor", SETUP, "What is here, what is wrong and what mends it.", f"{HERE}.doctor"),
    Verb("keys", SETUP, "Keys of callers, each with limits of its own: new, list, usage.", f"{HERE}.keys"),
    Verb("service", SETUP, "A server from login on: install, status, remove.", f"{HERE}.service"),
    Verb("completion", SETUP, "Completed words in bash, zsh, fish, powershell.", f"{HERE}.completion"),
    Verb("uninstall", SETUP, "All that was written here, listed and removed.", f"{HERE}.uninstall"),
    Verb("config", SETUP, "The configuration: show, keys, init, set.", f"{HERE}.configuration"),
)


FIRST = 'edge-router chat "What is the capital of France?"'


class Root(LazyGroup):
    verbs = VERBS

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """A usage error names our way where a question, or a word that we have no verb for, stands first."""
        from edge_router.cli import elsewhere

        if args[0] == "help":
            _help(ctx, args[1:])
            args = [*args[1:], "--help"]
        if args[0] in elsewhere.SENTENCES:
            ctx.fail(elsewhere.SENTENCES[args[0]])
        if " " in args[0].strip():
            from edge_router.cli.terminal.sentences import command

            ctx.fail(f"No such command. To ask that: {command('chat', args[0])}")
        return super().resolve_command(ctx, elsewhere.in_our_words(args))


def _help(ctx: typer.Context, verb: Sequence[str] = ()) -> None:
    """Of the whole, where no `verb` is named, and nothing else then."""
    if not verb:
        output.write(f"{ctx.get_help()}\n")
        raise typer.Exit


def _version(wanted: bool) -> None:
    if wanted:
        from edge_router import __version__

        output.write(f"edge-router {__version__}\n")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A configuration file instead of your own.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("-o", "--set", metavar="NAME=VALUE", help="One setting, such as weak.threads=2."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what was asked for.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Answers on your own machine when a small model is good enough; only hard queries go to a strong one."""
    ctx.ensure_object(Options).add(config=config, settings=settings or (), debug=debug, quiet=quiet)
    if ctx.invoked_subcommand is None:
        _help(ctx)


def parser() -> Any:
    """The command line as typer has it."""
    if quick.is_completing():  # typer does so by itself where it adds options of its own
        import_module("typer.completion").completion_init()  # of which it exports nothing by name
    app = typer.Typer(cls=Root, rich_markup_mode=None, add_completion=False)
    app.callback(
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=f"Begin with: {FIRST}",
    )(_root)
    return get_command(app)
