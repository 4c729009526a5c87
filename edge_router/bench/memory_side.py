"""One setting of `bench memory`, in its own process: options as JSON on stdin, one line of JSON on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_router.bench.memory import FULL, LOADED, PREFILLED
from edge_router.device import process
from edge_router.parsing import strict_json

_DECODED = 8  # tokens at the end of each context


def main() -> None:
    options = strict_json.parse_object(sys.stdin.read())
    stages, planned = run(options)
    sys.stdout.write(json.dumps({"planned": planned, "stages": stages}) + "\n")


def run(options: Mapping[str, Any]) -> tuple[list[dict[str, object]], dict[str, int]]:
    """The stages, and the plan's bytes by part."""
    from edge_router.config.settings import Config
    from edge_router.engines.tvm.engine import TvmRunner
    from edge_router.engines.tvm.memory import Residence
    from edge_router.prompts.directory import ModelDirectory
    from edge_router.routing.routers import routers
    from edge_router.system.paths import Paths
    from edge_router.types import SilentProgress

    setting, chat = options["setting"], options["chat"]
    router = routers().get(options["router"])(threads=1)
    chat["context_window_size"], chat["prefill_chunk_size"] = setting["context"], setting["chunk"]
    config = Config().replace(**{"weak.max_sequences": setting["conversations"], "weak.vram_budget": "100%"})
    threads = options["threads"] or 1
    library, paths = Path(options["library"]), Paths.under(Path(options["home"]))
    directory = ModelDirectory.read(Path(options["model_dir"]), options["model"])
    residence = Residence(
        options["model"], chat, library, config, paths, SilentProgress(), threads=threads, forms=False
    )
    settings = residence.settings()
    plan = residence.plan
    assert plan is not None
    if settings.context_window_size != setting["context"]:
        raise SystemExit(f"only a context of {settings.context_window_size} fits into what is free")
    process.forget_peak()
    watch = _Watch()
    runner = TvmRunner(
        directory.path,
        library,
        context_window_size=setting["context"],
        prefill_chunk_size=setting["chunk"],
        max_sequences=setting["conversations"],
        threads=threads,
    )
    watch.note(LOADED)
    _fill(runner, watch)
    del router
    parts = {str(name): int(count) for name, count in plan.to_dict()["bytes"].items()}  # type: ignore[attr-defined]
    return watch.stages, parts


def _fill(runner: Any, watch: _Watch) -> None:
    """Every conversation up to its last token, chunk by chunk and then one by one; a sample at the end."""
    import numpy as np

    from edge_router.chat.request import SamplingParams
    from edge_router.engines.local.sampler import Sampler, SamplingDefaults

    chance = np.random.default_rng(0)
    chunk, context = runner.prefill_chunk_size, runner.context_window_size
    sequences = list(range(runner.max_sequences))
    for sequence in sequences:
        runner.add_sequence(sequence)
        left = context - _DECODED
        while left:
            count = min(chunk, left)
            runner.prefill(sequence, chance.integers(0, runner.vocab_size, count).tolist())
            left -= count
            if len(watch.stages) == 1:
                watch.note(PREFILLED)
    demanding = SamplingParams(top_p=0.9, presence_penalty=0.1, repetition_penalty=1.1)
    sampler = Sampler(demanding, SamplingDefaults(), prompt=[1], vocab_size=runner.vocab_size, logprobs=5)
    for last in range(_DECODED):  # together, and the last one alone as when the others have ended
        going = sequences[: 1 if last == _DECODED - 1 else None]
        for row in runner.decode(going, [1] * len(going)):
            sampler.choose(row)
    watch.note(FULL)


class _Watch:
    def __init__(self) -> None:
        self._before = process.allocated_bytes()
        self.stages: list[dict[str, object]] = []

    def note(self, name: str) -> None:
        now = process.allocated_bytes()
        handed = None if now is None or self._before is None else now - self._before
        self.stages.append(
            {
                "name": name,
                "resident": process.resident_bytes(),
                "peak": process.peak_bytes(),
                "allocated": handed,
            }
        )


if __name__ == "__main__":
    main()
