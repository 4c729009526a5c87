"""How long programs take from their start to the first letter of an answer, in turns: medians and ratios.

    python .ci/start.py 9 OLD/bin/edge-router=OLD_HOME NEW/bin/edge-router=NEW_HOME

Each is `edge-router` of some environment with an EDGE_ROUTER_HOME in which the demo model is built. The first
round does not count. On Linux processor time is told, too, for it means something on a busy machine as well.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

QUESTION = ("chat", "--offline", "--temperature", "0", "--max-tokens", "1", "What")


def first_letter(program: str, home: str) -> tuple[float, float]:
    """Seconds that passed, and those of a processor."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [program, *QUESTION],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**environment, "EDGE_ROUTER_HOME": home},
    )
    assert process.stdout is not None
    process.stdout.read(1)
    seconds = time.perf_counter() - began
    told = Path(f"/proc/{process.pid}/stat")
    fields = told.read_text().rpartition(")")[2].split() if told.exists() else ["0"] * 13
    process.communicate()
    return seconds, (int(fields[11]) + int(fields[12])) / 100


def main(rounds: str, *programs: str) -> None:
    found: dict[str, list[tuple[float, float]]] = {program: [] for program in programs}
    for number in range(int(rounds) + 1):
        for program, taken in found.items():
            taken += [first_letter(*program.split("=", 1))][: number > 0]
    first = [0.0, 0.0]
    for program, taken in found.items():
        medians = [statistics.median(times) for times in zip(*taken, strict=True)]
        first = first if any(first) else medians
        ratios = " ".join(f"{own / other:.2f}" for own, other in zip(medians, first, strict=True) if other)
        sys.stdout.write(
            f"{program}: {medians[0]:.3f} s, {medians[1]:.3f} s of processors; ratios {ratios}\n"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
