"""Lines for a shell that set variables and start a program, quoted as sh, PowerShell and cmd each want it."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from enum import StrEnum


class Shell(StrEnum):
    SH = "sh"
    POWERSHELL = "powershell"
    CMD = "cmd"


def usual() -> Shell:
    """Of this system."""
    return Shell.POWERSHELL if os.name == "nt" else Shell.SH


def lines(
    shell: Shell,
    *,
    variables: Mapping[str, str],
    copied: Mapping[str, str],
    removed: Sequence[str],
    commands: Sequence[Sequence[str]],
) -> list[str]:
    """`copied` variables get what another one holds, whose value so shows nowhere; `commands` follow."""
    if shell is Shell.SH:
        return [
            *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
            *(f'export {name}="${other}"' for name, other in copied.items()),
            *([f"unset {' '.join(removed)}"] if removed else []),
            *map(shlex.join, commands),
        ]
    if shell is Shell.POWERSHELL:
        places = ", ".join(f"Env:{name}" for name in removed)
        return [
            *(f"$env:{name} = {_single(value)}" for name, value in variables.items()),
            *(f"$env:{name} = $env:{other}" for name, other in copied.items()),
            *([f"Remove-Item {places} -ErrorAction SilentlyContinue"] if removed else []),
            *(f"& {' '.join(map(_single, command))}" for command in commands),
        ]
    return [
        *(f'set "{name}={value}"' for name, value in variables.items()),
        *(f'set "{name}=%{other}%"' for name, other in copied.items()),
        *(f'set "{name}="' for name in removed),
        *map(subprocess.list2cmdline, commands),
    ]


def for_batch_file(program: str, arguments: Sequence[str]) -> str:
    """The command line by which Windows starts a .cmd or .bat file, as npm installs its programs.

    cmd reads it before the program does: each word is in quotes, in which `&` and `|` mean nothing to it.
    """
    return " ".join('"' + word.replace('"', '""') + '"' for word in (program, *arguments))


def _single(word: str) -> str:
    return "'" + word.replace("'", "''") + "'"
