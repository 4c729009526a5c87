"""Bodies packed with zstd, where this Python has it or the package `backports.zstd` is installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from edge_router.errors import InvalidRequest

NAME = "zstd"
_PIECE = 256 * 1024
_WINDOW_LOG = 23  # 8 MiB of memory, which any decoder should have and no more than which a client may ask for


@cache
def _module() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


def is_here() -> bool:
    return _module() is not None


def unpacked(data: bytearray, take: Callable[[int], None]) -> bytearray:
    """`take` hears of each piece's size, and may raise. Raises `InvalidRequest`."""
    zstd = _module()
    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    stream, found, rest = zstd.ZstdDecompressor(options=options), bytearray(), bytes(data)
    try:
        while not stream.eof and (rest or not stream.needs_input):
            piece = stream.decompress(rest, _PIECE)
            rest = b""
            take(len(piece))
            found += piece
    except zstd.ZstdError as error:
        raise InvalidRequest(None, f"the body is not well-formed zstd: {error}") from error
    if not stream.eof or stream.unused_data:
        raise InvalidRequest(None, "the body is not one whole zstd frame")
    return found
