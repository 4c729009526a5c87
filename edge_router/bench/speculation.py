"""What guesses are worth: the same questions with `weak.speculation` and without, in turns."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing

from edge_router.bench.everyday import PROMPTS
from edge_router.bench.weak_results import MedianRange
from edge_router.chat.events import Finished
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.config.settings import Config
from edge_router.engines.base import Engine, answered
from edge_router.records import dataclass
from edge_router.system.paths import Paths
from edge_router.types import Progress

TOKENS = 160  # of an answer at most
_LEAST = 16  # tokens of an answer whose pace counts
_CODE = """def total_price(items, tax_rate):
    subtotal = 0
    for item in items:
        subtotal = subtotal + item["price"] * item["quantity"]
    return subtotal + subtotal * tax_rate


def print_receipt(items, tax_rate):
    for item in items:
        print(item["name"], item["price"], item["quantity"])
    print("Total:", total_price(items, tax_rate))
"""
_TEXT = (
    "The Amazon rainforest covers much of northwestern Brazil and extends into Colombia, Peru and other "
    "South American countries. It is the world's largest tropical rainforest and is famed for its "
    "biodiversity. It is crossed by thousands of rivers, including the powerful Amazon. River towns "
    "with architecture from the days of the rubber boom include Manaus and Belem in Brazil and Iquitos "
    "and Puerto Maldonado in Peru."
)
_DATA = """name: Alice Johnson, age: 34, city: Portland, email: alice.johnson@example.com
name: Robert Miller, age: 51, city: Minneapolis, email: robert.miller@example.com
name: Catherine Zhang, age: 28, city: San Francisco, email: catherine.zhang@example.com"""
COPYING: Mapping[str, str] = {
    "a text quoted": f"Repeat the following text word for word:\n\n{_TEXT}",
    "code edited": f"Rename tax_rate to rate in this code and repeat the whole code:\n\n{_CODE}",
    "data as JSON": f"Write this as a JSON list of objects with the keys name, age, city, email:\n\n{_DATA}",
}
_SAMPLINGS = (SamplingParams(temperature=0.0), SamplingParams(temperature=0.7, top_p=0.9, seed=5))


@dataclass(frozen=True, slots=True)
class SpeculationGain:
    """Of questions: how many times as fast their answers were written with guesses, the lowest and highest.

    `tokens_per_s` is the median without and with them; `same` whether every text was the same.
    """

    ratio: MedianRange
    tokens_per_s: tuple[float, float]
    same: bool


@dataclass(frozen=True, slots=True)
class SpeculationBench:
    model: str
    kinds: Mapping[str, SpeculationGain]

    def to_dict(self) -> dict[str, object]:
        return {
            "model": self.model,
            "kinds": {
                name: {
                    "ratio": {
                        "median": round(kind.ratio.median, 3),
                        "low": round(kind.ratio.low, 3),
                        "high": round(kind.ratio.high, 3),
                    },
                    "tokens_per_s": [round(pace, 1) for pace in kind.tokens_per_s],
                    "same_text": kind.same,
                }
                for name, kind in self.kinds.items()
            },
        }


def bench_speculation(config: Config, paths: Paths, rounds: int, progress: Progress) -> SpeculationBench:
    """Raises what building and starting the engine tvm raise."""
    from edge_router.engines.tvm.engine import built, open_model, thread_count

    compiled = built(config, paths, progress)
    threads = thread_count(config, paths)
    with ExitStack() as stack:
        without, guessing = (
            stack.enter_context(
                closing(
                    open_model(
                        compiled.model_dir,
                        compiled.library,
                        model_id=compiled.card.name,
                        threads=threads,
                        speculation=speculation,
                    )
                )
            )
            for speculation in (False, True)
        )
        asked = {name: [text] for name, text in COPYING.items()} | {"everyday": list(PROMPTS)}
        kinds = {}
        with progress.step("bench", total=len(asked)) as step:
            for name, texts in asked.items():
                kinds[name] = measured(without, guessing, texts, rounds)
                step.advance()
    return SpeculationBench(compiled.card.name, kinds)


def measured(without: Engine, guessing: Engine, texts: Sequence[str], rounds: int) -> SpeculationGain:
    """Each text in each way of choosing, asked of both in turns."""
    ratios, paces, same = list[float](), (list[float](), list[float]()), True
    for text in texts:
        for sampling in _SAMPLINGS:
            request = ChatRequest((Message("user", text),), max_tokens=TOKENS, sampling=sampling)
            taken: tuple[list[float], list[float]] = ([], [])
            for number in range(rounds):
                said = ["", ""]
                for side in (0, 1) if number % 2 else (1, 0):
                    said[side], seconds = _asked((without, guessing)[side], request)
                    if seconds is not None:
                        taken[side].append(seconds)
                same = same and said[0] == said[1]
            if taken[0] and taken[1]:
                each = [statistics.median(side) for side in taken]
                ratios.append(each[0] / each[1])
                for pace, seconds in zip(paces, each, strict=True):
                    pace.append(1 / seconds)
    medians = statistics.median(paces[0]), statistics.median(paces[1])
    return SpeculationGain(MedianRange.of(ratios), medians, same)


def _asked(engine: Engine, request: ChatRequest) -> tuple[str, float | None]:
    """The text, and the seconds of one of its tokens; None of a short one."""
    events = list(answered(engine, request, threading.Event()))
    last = events[-1]
    timings = last.timings if isinstance(last, Finished) else None
    if timings is None or timings.decode_s is None or timings.decode_tokens < _LEAST:
        return collect(events).text, None
    return collect(events).text, timings.decode_s / timings.decode_tokens
