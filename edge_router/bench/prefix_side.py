"""A program that starts, asks and ends, for `bench prefix`: JSON in its argument, and on standard output."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_router.parsing import strict_json

if TYPE_CHECKING:
    from edge_router.chat.request import ChatRequest
    from edge_router.engines.local.engine import LocalEngine

_QUESTION = "Which of these matters most?"
_ANSWER = 24  # tokens


def main(given: str) -> None:
    # Libraries write to standard output as they please: give them the other one.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    answers.write(json.dumps(run(strict_json.parse_object(given))))
    answers.close()


def run(options: Mapping[str, Any]) -> dict[str, object]:
    """The fields of `prefix.Started`."""
    from edge_router.chat.reply import collect
    from edge_router.chat.request import SamplingParams
    from edge_router.config.settings import Config
    from edge_router.engines import load_weak, weak_engines
    from edge_router.engines.base import answered
    from edge_router.engines.local.engine import LocalEngine
    from edge_router.engines.local.scheduling.prefixes import Keeper
    from edge_router.errors import EngineUnavailable
    from edge_router.store.prefixes import PrefixStore
    from edge_router.system.paths import Paths
    from edge_router.types import SilentProgress

    config = Config.load(environ={}, overrides=options["settings"])
    paths = Paths(**{name: Path(place) for name, place in options["paths"].items()})
    engine = load_weak(weak_engines(), config, paths, SilentProgress())
    try:
        if not isinstance(engine, LocalEngine):
            raise EngineUnavailable(config.weak.engine, "it keeps nothing itself: take tvm or webgpu")
        store = PrefixStore(Path(options["folder"]), 1 << 40)
        facts = {"model": engine.model_id}
        engine.keeper = Keeper(store, facts, lambda _: bool(options["keep"]), engine.prompts.beginning)
        loaded = time.perf_counter()
        plain = _request(engine, options["tokens"])
        texts, first = list[str](), 0.0
        for sampling in (SamplingParams(temperature=0.0), SamplingParams(temperature=0.8, seed=1)):
            asked, busy = time.perf_counter(), time.process_time()
            stream = answered(engine, replace(plain, sampling=sampling), threading.Event())
            events = [next(stream)]
            if not texts:
                first, cpu = time.perf_counter() - asked, time.process_time() - busy
                begun = time.time() - options["begun"] - (asked - loaded)
            events += stream
            reply = collect(events)
            assert reply.usage is not None
            if not texts:
                usage = reply.usage
            texts.append(reply.text)
    finally:
        engine.close()
    return {
        "first_s": first,
        "begun_s": begun,
        "cpu_s": cpu,
        "tokens": usage.prompt_tokens,
        "known": usage.cached_tokens,
        "texts": texts,
    }


def _request(engine: LocalEngine, tokens: int) -> ChatRequest:
    """With a system message of about as many tokens."""
    from edge_router.chat.message import Message
    from edge_router.chat.request import ChatRequest

    text = (files("edge_router.compile.weights") / "texts" / "calibration.txt").read_text(encoding="utf-8")

    def made(letters: int) -> ChatRequest:
        turns = (Message("system", text[:letters]), Message("user", _QUESTION))
        return ChatRequest(turns, max_tokens=_ANSWER)

    letters = 4 * tokens
    for _ in range(3):
        letters = max(1, letters * tokens // (engine.prepare(made(letters)).count or 1))
    return made(letters)


if __name__ == "__main__":
    main(sys.argv[1])
