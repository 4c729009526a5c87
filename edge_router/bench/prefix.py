"""What a kept system message is worth: programs that start, ask and end, with it and without, in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from edge_router.bench.weak_results import MedianRange
from edge_router.config.settings import Config
from edge_router.errors import GenerationFailed
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.system.paths import Paths
from edge_router.system.telemetry import switched_off
from edge_router.types import Progress

_SIDE = "edge_router.bench.prefix_side"


@dataclass(frozen=True, slots=True)
class Started:
    """What one program did. Seconds to its first token: since it was asked, since the program began, and the
    processor's since it was asked, which others that are busy do not make longer.

    `tokens` of its prompt, of which `known` were not read; `texts`: greedy, and drawn from a seed.
    """

    first_s: float
    begun_s: float
    cpu_s: float
    tokens: int
    known: int
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PrefixBench:
    """Milliseconds to the first token, with what was kept and without."""

    model: str
    tokens: int
    known: int
    bytes: int
    times: Mapping[str, tuple[MedianRange, MedianRange]]
    same: bool

    def to_dict(self) -> dict[str, object]:
        def told(pair: tuple[MedianRange, MedianRange]) -> dict[str, object]:
            kept, read = ([round(x, 1) for x in (each.median, each.low, each.high)] for each in pair)
            return {"kept_ms": kept, "read_ms": read, "ratio": round(ratio(pair), 4)}

        return {
            "model": self.model,
            "prompt_tokens": self.tokens,
            "kept_tokens": self.known,
            "bytes": self.bytes,
            "first_token": {name: told(pair) for name, pair in self.times.items()},
            "same_text": self.same,
        }


def ratio(pair: tuple[MedianRange, MedianRange]) -> float:
    """Of the medians."""
    return pair[0].median / pair[1].median


def bench_prefix(config: Config, paths: Paths, tokens: int, rounds: int, progress: Progress) -> PrefixBench:
    """A system message of about `tokens` tokens, each round two programs in turns. What is kept lies in a
    folder that goes at the end. Raises what building and starting the weak model raise."""
    with tempfile.TemporaryDirectory(prefix="edge-router-bench-") as folder:
        options = {
            "settings": _settings(config),
            "paths": {each.name: str(getattr(paths, each.name)) for each in fields(Paths)},
            "folder": folder,
            "tokens": tokens,
        }
        kept, read = list[Started](), list[Started]()
        with progress.step("bench", total=rounds + 1, unit="rounds") as step:
            _started({**options, "keep": True})  # which writes it
            step.advance()
            for number in range(rounds):
                for keep in (True, False) if number % 2 else (False, True):
                    (kept if keep else read).append(_started({**options, "keep": keep}))
                step.advance()
        size = sum(file.stat().st_size for file in Path(folder).rglob("pages.bin"))
    return found(config.weak.model, size, kept, read)


def found(model: str, size: int, kept: Sequence[Started], read: Sequence[Started]) -> PrefixBench:
    return PrefixBench(
        model,
        kept[0].tokens,
        kept[0].known,
        size,
        {
            "since the question": _pair(kept, read, lambda each: each.first_s),
            "of the processor": _pair(kept, read, lambda each: each.cpu_s),
            "since the program's start": _pair(kept, read, lambda each: each.begun_s),
        },
        same=len({each.texts for each in (*kept, *read)}) == 1,
    )


def _pair(
    kept: Sequence[Started], read: Sequence[Started], seconds: Callable[[Started], float]
) -> tuple[MedianRange, MedianRange]:
    one, other = (MedianRange.of([1000 * seconds(each) for each in side]) for side in (kept, read))
    return one, other


def _settings(config: Config) -> dict[str, object]:
    """What is set of the weak model, as another process reads it."""
    plain = Config()
    named = [f"weak.{each.name}" for each in fields(type(config.weak))]
    return {key: config.get(key) for key in (*named, "offline") if config.get(key) != plain.get(key)}


def _started(options: Mapping[str, Any]) -> Started:
    command = [sys.executable, "-m", _SIDE, json.dumps({**options, "begun": time.time()})]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=switched_off(os.environ)
    )
    try:
        told = strict_json.parse_object(done.stdout)
    except strict_json.NotJson as error:
        last = done.stderr.strip().splitlines()[-1:]
        raise GenerationFailed("bench prefix", *last or ["its process ended"]) from error
    return Started(**{**told, "texts": tuple(told["texts"])})
