"""What MLC's chunks and errors become here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edge_router.chat.events import FinishReason
from edge_router.engines.mlc import NAME
from edge_router.errors import (
    REASON,
    ContextOverflow,
    EdgeRouterError,
    EngineUnavailable,
    GenerationFailed,
    InvalidRequest,
    OutOfMemory,
    clipped,
)
from edge_router.system.worker_process import Line, mistake_of

_FINISHED: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
_TOO_LONG = re.compile(r"prompt has (\d+) tokens in total, larger than the model input length limit (\d+)")
_MEMORY = re.compile(
    r"out[ _]?of[ _]?(\w+[ _])?memory|insufficient gpu memory|bad_alloc|cannot allocate memory"
    r"|mem_object_allocation_failure",
    re.IGNORECASE,
)
_STACK = re.compile(r"^\s*(?:Stack trace|Traceback)\b", re.MULTILINE)


def finish_of(line: Line) -> FinishReason | None:
    reason = line.get("finish")
    if reason is None:
        return None
    if reason not in _FINISHED:  # "error", or "preempt": there was no room to go on
        raise GenerationFailed(NAME, f"it ended the answer with {reason!r}")
    return _FINISHED[reason]


def error_of(line: Line) -> EdgeRouterError:
    """The one place where what MLC raises becomes ours."""
    if "mistake" in line:
        return mistake_of(NAME, line)
    message, kind = _told(line), line.get("kind")
    too_long = _TOO_LONG.search(message)
    if too_long is not None:
        return ContextOverflow(int(too_long[1]), int(too_long[2]))
    if kind in ("BadRequestError", "ValidationError"):
        return InvalidRequest(None, message)
    if _of_memory(line):
        return OutOfMemory(NAME, message)
    return GenerationFailed(NAME, message or str(kind))


def refusal_of(line: Line) -> EdgeRouterError:
    """What MLC raised while it was loading."""
    reason = f"{line.get('kind')}: {_told(line)}"
    return OutOfMemory(NAME, reason) if _of_memory(line) else EngineUnavailable(NAME, reason)


def _told(line: Line) -> str:
    """Without the addresses of C++ functions."""
    return clipped(" ".join(_STACK.split(str(line["error"]))[0].split()), REASON)


def _of_memory(line: Line) -> bool:
    return line.get("kind") == "MemoryError" or _MEMORY.search(str(line["error"])) is not None
