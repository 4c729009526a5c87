"""Loads the weak model that its settings name, reads the longest prefill, fills the context; stops after each.

A program: settings as JSON on the first line of standard input. After each stage it writes a line of JSON,
and goes on when it is given another line.
"""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from typing import Any

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.config.settings import Config
from edge_router.engines import load_weak, weak_engines
from edge_router.engines.base import answered
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

_ANSWER = 8  # tokens at the end of each answer
_WORD = " the"  # one token of the demo model's tokenizer


def main() -> None:
    config = Config().replace(**json.loads(sys.stdin.readline()))
    engine: Any = load_weak(weak_engines(), config, Paths.default(), SilentProgress())
    settings = engine.plan.settings
    facts = {
        "planned": engine.plan.total,
        "budget": engine.plan.budget,
        "context": settings.context_window_size,
        "chunk": settings.prefill_chunk_size,
    }
    _stage("loaded", **facts)
    _read(engine, settings.prefill_chunk_size)
    _stage("longest prefill", **facts)
    _read(engine, settings.context_window_size - _ANSWER)
    _stage("full context", **facts)
    engine.close()
    _stage("closed", **facts)


def _read(engine: Any, tokens: int) -> None:
    request = ChatRequest(
        (Message("user", ""),),
        raw_prompt=_WORD * tokens,
        max_tokens=_ANSWER,
        sampling=replace(SamplingParams(), temperature=0.0),
    )
    counted = engine.prepare(request).count
    if counted != tokens:
        raise SystemExit(f"{tokens} words became {counted} tokens")
    for _ in answered(engine, request, threading.Event()):
        pass


def _stage(name: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"stage": name, **facts}) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    main()
