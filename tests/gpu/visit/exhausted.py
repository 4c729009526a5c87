"""Step (e): out of memory while loading, in prefill and in decoding: the right error, nothing lost, then right answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import Memory, Results, folder, manifest, start

from edge_router.engines.tvm.engine import TvmRunner
from edge_router.errors import OutOfMemory

MIB = 1 << 20
LOST = 4 * MIB  # bytes that may be gone afterwards: the driver's own
PROMPT = list(range(1, 31))


def main() -> None:
    results, name = Results("exhausted"), manifest()["served"]
    start()
    memory = Memory()
    right = _right(name)  # and so the driver has made what it keeps
    before = memory.free()
    for left in (0, 3 * MIB):
        with results.trying(f"loading with {left} bytes left"):
            memory.fill(left)
            told = _refused(lambda: _runner(name).close())
            memory.release()
            results.check(f"loading with {left} bytes left", told is not None, told=told)
    for stage in ("prefill", "decode"):
        with results.trying(stage):
            _in_the_midst(results, name, stage, memory, right)
    memory.release()
    gone = before - memory.free()
    results.check("nothing is lost", gone <= LOST, bytes=gone)


def _in_the_midst(results: Results, name: str, stage: str, memory: Memory, right: list[Any]) -> None:
    """The memory goes when the model is loaded, so that what a pass computes finds no room."""
    runner = _runner(name)
    runner.add_sequence(0)
    if stage == "decode":
        runner.prefill(0, PROMPT[:1])
    memory.fill()
    runner.add_sequence(1)
    told = _refused(lambda: runner.prefill(1, PROMPT) if stage == "prefill" else runner.decode([0], [1]))
    memory.release()
    facts = {"told": told}
    if stage == "prefill":
        results.check("prefill without memory", told is not None, **facts)
    else:  # its buffers may be those that prefill has left, and then there is nothing to refuse
        results.check("decode without memory", True, refused=told is not None, **facts)
    runner.reset()
    found = _said(runner)
    runner.close()
    same = all(np.array_equal(a, b) for a, b in zip(found, right, strict=True))
    results.check(f"the next answer after {stage}", same)


def _runner(name: str) -> TvmRunner:
    return TvmRunner(folder(name), folder(name) / "cuda.so", max_sequences=2, device="cuda")


def _right(name: str) -> list[Any]:
    runner = _runner(name)
    found = _said(runner)
    runner.close()
    return found


def _said(runner: TvmRunner) -> list[Any]:
    runner.add_sequence(0)
    found = [np.array(runner.prefill(0, PROMPT[:20]))]
    return found + [np.array(runner.decode([0], [token])) for token in (5, 6)]


def _refused(run: Callable[[], object]) -> str | None:
    """What an `OutOfMemory` said; None where there was none. Anything else is raised."""
    try:
        run()
    except OutOfMemory as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()
