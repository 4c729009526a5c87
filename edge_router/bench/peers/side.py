"""One side with a process of its own: `python -m edge_router.bench.peers.side NAME OPTIONS`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from edge_router.bench.peers.cases import BenchCase
from edge_router.bench.weak_rounds import OURS, SideProcess, side_process
from edge_router.bench.weak_sides import serve
from edge_router.errors import GenerationFailed

_MODULE = "edge_router.bench.peers.side"
_WARM = BenchCase("prefill", 32), BenchCase("decode", 0)  # first touches of memory, threads that start


class ProcessSide:
    """A `Side` whose model lies in another process."""

    def __init__(self, process: SideProcess) -> None:
        self._process = process

    def speed(self, case: BenchCase) -> float:
        if case.kind == "prefill":
            seconds = self._process.ask("read", length=case.length, batch=case.batch)
        else:
            seconds = self._process.ask("write", depth=case.length, batch=case.batch)
        return case.tokens / seconds


@contextmanager
def opened(name: str, options: Mapping[str, object]) -> Iterator[ProcessSide]:
    """Loaded and warm, so that it takes no time from the next one.

    Another program that cannot start says so whenever it is asked; raises `GenerationFailed` where we cannot.
    """
    with side_process(name, options, _MODULE) as process:
        side = ProcessSide(process)
        with suppress(*() if name == OURS else (GenerationFailed,)):
            for short in _WARM:
                side.speed(short)
        yield side


def main(name: str, options: str) -> None:
    if name == OURS:
        from edge_router.bench.peers.ours import OursInTokens

        serve(OursInTokens, options)
    else:
        from edge_router.bench.peers.openvino import OpenVino

        serve(OpenVino, options)


if __name__ == "__main__":
    main(*sys.argv[1:])
