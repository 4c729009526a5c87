"""Asking before something is lost."""

from __future__ import annotations

import sys

from edge_router.cli.terminal import output


def confirmed(question: str, *, yes: bool) -> bool:
    """`yes`, or what the person says. Where nobody can be asked, a usage error that names --yes."""
    if yes:
        return True
    if not is_someone_there():
        import typer

        raise typer.BadParameter("nobody can be asked here; say --yes to go ahead")
    return asked(question, default=False)


def asked(question: str, *, default: bool) -> bool:
    """What the person there says. Ctrl-C and Ctrl-D end the program."""
    import typer

    try:
        return typer.confirm(question, default=default, err=True)
    except typer.Abort:
        output.say("")
        raise typer.Exit(output.INTERRUPTED) from None


def is_someone_there() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
