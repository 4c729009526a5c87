"""Step (b): whole models' logits against the processor's, which were computed where the pack was made.

A process for each model, `logits.py NAME`: after some errors a GPU takes nothing more from the process that met them.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from common import EMULATED, Results, answer, calls_of, folder, manifest, start

from edge_router.engines.tvm.engine import TvmRunner

CLOSE = 0.02  # of a logit, over the standard deviation of all


MODEL_S = 120.0 if EMULATED else 10.0  # so that one that hangs leaves time for the others


def main() -> None:
    results = Results("logits")
    for name in manifest()["logits"]:
        with results.trying(name):
            subprocess.run([sys.executable, __file__, name], timeout=MODEL_S, check=True)


def compare(name: str) -> None:
    results = Results("logits")
    start()
    for library in ("cuda", "graphs"):
        with results.trying(f"{name} {library}"):
            _compare(results, name, library)


def _compare(results: Results, name: str, library: str) -> None:
    place = folder(name)
    if weights_hash(place) != manifest()["weights"][name]:
        raise ValueError("the weights are not those that were computed with")
    runner = TvmRunner(place, place / f"{library}.so", max_sequences=4, device="cuda")
    wanted = np.load(place / "wanted.npz")
    errors = []
    for number, logits in enumerate(answer(runner, calls_of(name))):
        if logits is not None:
            right = wanted[str(number)]
            errors.append(float(np.abs(logits - right).max() / right.std()))
    runner.close()
    good = len(errors) == len(wanted.files) and max(errors) < CLOSE  # not a number is not less either
    results.check(f"{name} {library}", good, largest_error=max(errors), errors=[round(e, 5) for e in errors])


def weights_hash(place: Path) -> str:
    index = json.loads((place / "tensor-cache.json").read_text(encoding="utf-8"))
    sums = "".join(record["md5sum"] for record in index["records"])
    return hashlib.sha256(sums.encode()).hexdigest()


if __name__ == "__main__":
    compare(sys.argv[1]) if sys.argv[1:] else main()
