"""Asking before something is lost."""

from __future__ import annotations

import sys

import typer


def confirmed(question: str, *, yes: bool) -> bool:
    """`yes`, or what the person says. Where nobody can be asked, a usage error that names --yes."""
    if yes:
        return True
    if not is_someone_there():
        raise typer.BadParameter("nobody can be asked here; say --yes to go ahead")
    return typer.confirm(question, default=False, err=True)


def is_someone_there() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
