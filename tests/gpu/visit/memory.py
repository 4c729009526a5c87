"""Step (d): what is planned against what is taken, on a GPU of which little is left; a process for each case.

Keys and values have their place from the beginning, so a long context is read to its end only where that is quick.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import EMULATED, TESTS, Drawn, Memory, Results, chat, folder, manifest, start

GIB = 1 << 30
WITHIN = 0.05  # how far below its plan a process may stay; above it never
READ = 8192  # tokens
CASE_S = 60.0 if EMULATED else 15.0  # so that one that hangs leaves time for the others


def main() -> None:
    results, described = Results("memory"), manifest()
    name = described["memory"]["model"]
    for left in described["memory"]["left"]:
        with results.trying(f"{left} bytes left"), _ballast(left) as before:
            for context in described["memory"]["contexts"]:
                with results.trying(f"{left} {context}"):
                    _case(results, name, left, context, before)


def _case(results: Results, name: str, left: int, context: int, before: int) -> None:
    asked = json.dumps({"name": name, "context": context, "left": left, "before": before})
    done = subprocess.run(
        [sys.executable, __file__, asked],
        env={**os.environ, "EMULATED_MEMORY": str(left)},
        capture_output=True,
        text=True,
        timeout=CASE_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-1500:])
    found = json.loads(done.stdout.splitlines()[-1])
    title = f"{name} within {left / GIB:g} GiB at {context} tokens"
    if "refused" in found:
        results.check(title, True, **found)
        return
    most = max(found["taken"].values())
    good = most <= found["planned"] and (EMULATED or most >= (1 - WITHIN) * found["planned"])
    results.check(title, good, share=round(most / found["planned"], 4), **found)


@contextmanager
def _ballast(left: int) -> Iterator[int]:
    """Another program that leaves so much; what it sees as free."""
    if EMULATED:  # its memory is each process's own
        yield left
        return
    command = [sys.executable, "-P", str(TESTS / "gpu/device_memory.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        process.stdin.write(f"leave {left}\n")
        process.stdin.flush()
        yield int(process.stdout.readline())
        process.stdin.close()


def case(name: str, context: int, left: int, before: int) -> dict[str, Any]:
    """In a process of its own: bytes planned, and taken after each stage."""
    from edge_router.config.settings import Config
    from edge_router.device import gpus
    from edge_router.engines.tvm.memory import Residence
    from edge_router.errors import OutOfMemory
    from edge_router.system.paths import Paths
    from edge_router.types import SilentProgress

    start()
    given = {
        **chat(name),
        "context_window_size": context,
        "prefill_chunk_size": manifest()["memory"]["chunk"],
    }
    settings = {"weak.device": "cuda", "weak.engine": "tvm", "router.name": "length"}
    if not any(gpu.memory_free for gpu in gpus()):  # else what is free is asked for, as users have it
        settings["weak.vram_budget"] = f"{left >> 20}MiB"
    library = folder(name) / "cuda.so"
    with tempfile.TemporaryDirectory() as home:
        config, paths = Config().replace(**settings), Paths.under(Path(home))
        residence = Residence(name, given, library, config, paths, SilentProgress(), threads=1, forms=False)
        try:
            chosen = residence.settings()
        except OutOfMemory as error:
            return {"refused": str(error)}
    assert residence.plan is not None
    memory, taken = Memory(), {}
    runner = Drawn(
        folder(name), library, context_window_size=chosen.context_window_size,
        prefill_chunk_size=chosen.prefill_chunk_size, max_sequences=chosen.max_sequences, device="cuda",
    )  # fmt: skip
    taken["loaded"] = before - memory.free()
    runner.add_sequence(0)
    length = 0
    for title, end in (("longest prefill", 1), ("full context", min(READ, chosen.context_window_size - 8))):
        while length < end:
            count = min(chosen.prefill_chunk_size, max(end, chosen.prefill_chunk_size) - length)
            runner.prefill(0, [1] * min(count, chosen.context_window_size - 8 - length))
            length += count
        for _ in range(2):
            runner.decode([0], [1])
        taken[title] = before - memory.free()
    return {
        "planned": residence.plan.total, "budget": residence.plan.budget, "taken": taken,
        "context": chosen.context_window_size, "chunk": chosen.prefill_chunk_size,
        "sequences": chosen.max_sequences,
    }  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(case(**json.loads(sys.argv[1]))))  # noqa: T201
    else:
        main()
