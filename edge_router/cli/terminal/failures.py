"""The outermost frame: an exception becomes one sentence on stderr and an exit code."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from edge_router.cli.options import Options
from edge_router.cli.terminal import output
from edge_router.cli.terminal.sentences import ME, quoted, sentence
from edge_router.errors import (
    ArtifactMissing,
    BuildFailed,
    Cancelled,
    ConfigError,
    ContextOverflow,
    EdgeRouterError,
    EngineUnavailable,
    InvalidRequest,
    InvalidRules,
    UnknownName,
    clipped,
)
from edge_router.system.disk import as_storage_error

FAILED, USAGE = 1, 2
_OF_SETTINGS = (ArtifactMissing, BuildFailed, EngineUnavailable)  # of what was configured for this once, too


def report(error: Exception, options: Options) -> int:
    """Says what went wrong; returns the exit code."""
    if isinstance(error, BrokenPipeError):
        output.drop(sys.stdout)
        return FAILED
    if isinstance(error, Cancelled):
        return output.INTERRUPTED
    typer = sys.modules.get("typer")
    if typer is not None and isinstance(error, typer.BadParameter):  # of what typer has not read: `quick`
        output.say(f"error: {error.message}", style="red")
        return USAGE
    if options.debug:
        sys.stderr.write("".join(traceback.format_exception(error)))
    output.say(f"error: {worded(error, options)}", style="red")
    return exit_code(error)


def worded(error: Exception, options: Options) -> str:
    """The sentence, whose command is about the same settings."""
    text = told(error)
    if f": {ME} " in text:  # what is typed next is about the same settings
        if isinstance(error, _OF_SETTINGS) and f": {ME} config set " not in text:  # which lasts
            again = {name: value for name, value in options.settings.items() if name not in text}
            text += "".join(f" --set {quoted(f'{name}={value}')}" for name, value in again.items())
        if options.config is not None and "--config" not in text:
            text += f" --config {quoted(options.config)}"
    return text


def told(error: Exception) -> str:
    """The sentence for any exception."""
    if isinstance(error, OSError):
        if not error.filename:  # a file of ours has a name, so this is one of the streams
            return f"standard output cannot be written: {error.strerror}; send it elsewhere and try again"
        error = as_storage_error(error, Path(str(error.filename))) or error
    if isinstance(error, EdgeRouterError):
        return sentence(error)
    if isinstance(error, OSError):
        return f"{clipped(str(error.filename))}: {error.strerror}; check the path and try again"
    kind = f"{type(error).__name__}: {error}".rstrip(": ")
    return (
        f"something broke in edge-router itself ({kind}); run it again with --debug to see where, and see "
        f"what is here with: {ME} doctor"
    )


def exit_code(error: Exception) -> int:
    """2 where what was typed or configured is wrong, 1 where it was fine and the job failed."""
    if isinstance(error, ContextOverflow):
        return FAILED
    return USAGE if isinstance(error, InvalidRequest | UnknownName | ConfigError | InvalidRules) else FAILED
