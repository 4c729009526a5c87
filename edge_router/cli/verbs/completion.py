"""`edge-router completion`: what a shell has to know to complete verbs, options and models."""

from __future__ import annotations

import sys
from enum import StrEnum
from importlib import import_module
from typing import Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.sentences import ME

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


# What is typed once, so that every new shell has it.
FOR_GOOD = {
    Shell.BASH: f"echo 'eval \"$({ME} completion bash)\"' >> ~/.bashrc",
    Shell.ZSH: f"echo 'autoload -U compinit; compinit; eval \"$({ME} completion zsh)\"' >> ~/.zshrc",
    Shell.FISH: f"{ME} completion fish > ~/.config/fish/completions/{ME}.fish",
    Shell.POWERSHELL: f"Add-Content $PROFILE '{ME} completion powershell | Out-String | Invoke-Expression'",
}


@app.command()
def completion(
    ctx: typer.Context,
    shell: Annotated[Shell, typer.Argument(help="Whose words are printed.", show_default=False)],
) -> None:
    """Print what completes verbs, options and models in a shell. It is printed only: no file is touched.

    bash, for this shell: eval "$(edge-router completion bash)". On a terminal the line for every new one is
    told.
    """
    session = Session(ctx)
    variable = f"_{ME.replace('-', '_').upper()}_COMPLETE"
    scripts = import_module("typer.completion")  # of which it exports nothing by name
    script = scripts.get_completion_script(prog_name=ME, complete_var=variable, shell=shell.value)
    output.write(f"{script}\n")
    if sys.stdout.isatty() and not session.options.quiet:
        output.say(f"For every new shell: {FOR_GOOD[shell]}", style="dim")
