"""What the engine promises, on the stand-in for mlc_llm and, in the lane mlc, on the real one alike.

The model is a tiny one with random weights, so nothing here depends on what it says.
"""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from edge_router.chat.events import Event, Finished, Usage
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, JsonOutput, SamplingParams
from edge_router.engines.base import answered
from edge_router.engines.mlc.chunks import refusal_of
from edge_router.engines.mlc.engine import MlcEngine
from edge_router.engines.mlc.load import CHILD, first_line
from edge_router.engines.mlc.windows import windows_for
from edge_router.engines.tvm import engine as tvm
from edge_router.engines.tvm.engine import built
from edge_router.errors import (
    Cancelled,
    ContextOverflow,
    EngineUnavailable,
    GenerationFailed,
    UnsupportedRequest,
)
from edge_router.mlc_python import mlc_python
from edge_router.system.worker_process import Child
from edge_router.types import SilentProgress

CONTEXT, VOCABULARY = 128, 288
GREEDY = SamplingParams(temperature=0.0)
ENDLESS = SamplingParams(temperature=0.0, logit_bias=dict.fromkeys((0, 1, 2), -100.0))  # no end token
HELLO = ChatRequest((Message("user", "Where?"),), sampling=GREEDY, max_tokens=24)


def ask(engine: MlcEngine, request: ChatRequest = HELLO, **changed: Any) -> list[Event]:
    return list(answered(engine, replace(request, **changed), threading.Event()))


def text_of(events: list[Event]) -> str:
    return collect(events).text


def alike(one: list[tuple[bytes, float]], other: list[tuple[bytes, float]]) -> bool:
    """Near ones may have changed places."""
    near = all(abs(a - b) < 0.03 for (_, a), (_, b) in zip(one, other, strict=True))
    return near and len({data for data, _ in one} & {data for data, _ in other}) >= 3


def assert_broken_off(running: Iterator[Event], reason: str) -> None:
    """Unless all of it had come before its process ended."""
    try:
        assert list(running)[-1] == Finished("length", Usage(ANY, ANY))
    except GenerationFailed as error:
        assert reason in str(error)


def test_an_answer_is_events_of_text_and_an_end_with_its_usage(engine: MlcEngine) -> None:
    *pieces, end = ask(engine)
    assert isinstance(end, Finished) and end.reason in ("stop", "length") and end.usage is not None
    assert end.usage.prompt_tokens == engine.prepare(HELLO).count and 0 < end.usage.completion_tokens <= 24
    assert pieces and not any(isinstance(piece, Finished) for piece in pieces)
    assert ask(engine) == [*pieces, end]  # the likeliest tokens, again


def test_a_seed_makes_the_same_answer_again(engine: MlcEngine) -> None:
    sampling = SamplingParams(temperature=1.5, seed=3, logit_bias=ENDLESS.logit_bias)
    texts = [text_of(ask(engine, sampling=replace(sampling, seed=seed))) for seed in (3, 3, 4, 5, 6)]
    assert texts[0] == texts[1] and len(set(texts)) > 1


def test_an_answer_ends_where_it_was_to(engine: MlcEngine) -> None:
    for most in (1, 2, 7):
        *_, end = ask(engine, sampling=ENDLESS, max_tokens=most)
        assert end == Finished("length", Usage(engine.prepare(HELLO).count or 0, most)), most


def test_an_answer_may_fill_the_context_whatever_the_prompt_leaves(engine: MlcEngine) -> None:
    """Without a page of sixteen tokens that is free, MLC's engine would wait for ever."""
    for left in (60, 33, 17, 16, 15, 9, 8, 2, 1):
        prompt = ChatRequest((Message("user", "?"),), raw_prompt="x" * (CONTEXT - left), sampling=ENDLESS)
        *_, end = ask(engine, prompt)
        assert end == Finished("length", Usage(CONTEXT - left, left)), left


def test_the_whole_context_is_there_for_each_of_those_that_are_answered_at_once(engine: MlcEngine) -> None:
    prompt = ChatRequest((Message("user", "?"),), raw_prompt="x" * 60, sampling=ENDLESS)
    ends: list[Event] = []
    threads = [threading.Thread(target=lambda: ends.append(ask(engine, prompt)[-1])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [Finished("length", Usage(60, CONTEXT - 60))] * 6


def test_a_longer_prompt_than_the_context_is_refused(engine: MlcEngine) -> None:
    with pytest.raises(ContextOverflow) as caught:
        ask(engine, messages=(Message("user", "x" * 300),))
    assert caught.value.context_window_size == CONTEXT


def test_a_stop_string_ends_an_answer_and_is_not_part_of_it(engine: MlcEngine) -> None:
    letters = engine.prepare(
        ChatRequest((Message("user", "?"),), raw_prompt="qwertyuiopasdfghjklzxcvbnm")
    ).tokens
    spelling = SamplingParams(temperature=0.0, logit_bias=dict.fromkeys(letters or (), 50.0))
    whole = text_of(ask(engine, sampling=spelling))
    stop = whole[4:7]
    assert stop.isascii() and len(stop) == 3
    said = collect(ask(engine, sampling=spelling, stop=(stop,)))
    assert (said.text, said.finish_reason) == (whole[: whole.index(stop)], "stop")


def test_a_bias_is_obeyed_for_tokens_that_there_are(engine: MlcEngine) -> None:
    """And does no harm for others, which would be read and written where there is nothing."""
    others = {-1: 100.0, VOCABULARY: 100.0, 10**9: 100.0}
    assert text_of(ask(engine, sampling=SamplingParams(temperature=0.0, logit_bias=others))) == text_of(
        ask(engine)
    )
    letter = engine.prepare(ChatRequest((Message("user", "?"),), raw_prompt="q")).tokens
    assert letter is not None
    only = SamplingParams(temperature=0.0, logit_bias={letter[-1]: 100.0})
    assert text_of(ask(engine, sampling=only, max_tokens=5)) == "qqqqq"


def test_log_probabilities_are_the_models_own_in_this_engine_and_in_tvm(
    engine: MlcEngine, place: Any, request: pytest.FixtureRequest
) -> None:
    """Whatever is drawn; where they would be something else there are none."""
    other = tvm.load(place.config.replace(**{"weak.engine": "tvm"}), place.paths, SilentProgress())
    wanted = replace(HELLO, logprobs=True, top_logprobs=5, max_tokens=8)
    firsts: list[list[tuple[bytes, float]]] = []
    try:
        for each in (engine, other):
            told = []
            for seed in range(4):
                sampling = SamplingParams(temperature=1.0, top_p=1.0, seed=seed)
                reply = collect(ask(each, wanted, sampling=sampling))
                said = b"".join(entry.token_bytes for entry in reply.logprobs).decode("utf-8", "replace")
                assert said.startswith(reply.text), (each, seed)  # the last character may not be whole
                assert reply.usage is not None and reply.usage.completion_tokens == len(reply.logprobs), each
                for entry in reply.logprobs:
                    best = [top.logprob for top in entry.top]
                    assert len(best) == 5 and best == sorted(best, reverse=True), (each, entry)
                    assert sum(map(math.exp, best)) < 1.001 and entry.logprob < best[0] + 1e-6, (each, entry)
                told.append([(top.token_bytes, top.logprob) for top in reply.logprobs[0].top])
            assert all(alike(row, told[0]) for row in told[1:]), each
            firsts.append(told[0])
            for odd in ({"temperature": 0.0}, {"temperature": 0.5}, {"temperature": 1.0, "top_p": 0.5}):
                try:
                    found = collect(ask(each, wanted, sampling=SamplingParams(**odd))).logprobs[0]
                except UnsupportedRequest as error:
                    assert error.param == "logprobs" and each is engine and odd["temperature"], odd
                else:
                    assert [top.logprob for top in found.top] == pytest.approx(
                        [p for _, p in told[0]], abs=1e-3
                    )
    finally:
        other.close()
    if request.node.callspec.params["place"] == "real":  # which runs the same weights
        assert alike(*firsts)


def test_an_answer_is_held_to_json(engine: MlcEngine) -> None:
    """As far as it comes; without a token that ends it MLC says so, too."""
    for schema in (None, {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}):
        reply = collect(ask(engine, output=JsonOutput(schema), max_tokens=60))
        assert reply.text.startswith("{"), schema
        if reply.finish_reason == "stop":
            assert isinstance(json.loads(reply.text), dict), schema


def test_a_cancelled_answer_ends_and_the_next_one_is_given(engine: MlcEngine) -> None:
    expected, cancel = text_of(ask(engine)), threading.Event()
    running = answered(engine, replace(HELLO, sampling=ENDLESS, max_tokens=None), cancel)
    next(running)
    cancel.set()
    with pytest.raises(Cancelled):
        list(running)
    left = answered(engine, replace(HELLO, sampling=ENDLESS, max_tokens=None), threading.Event())
    next(left)
    left.close()
    assert text_of(ask(engine)) == expected


def test_a_process_that_has_ended_is_started_again(engine: MlcEngine) -> None:
    expected, times = text_of(ask(engine)), engine.restarts.count
    running = answered(engine, replace(HELLO, sampling=ENDLESS, max_tokens=None), threading.Event())
    next(running)
    engine._child.end("a test")
    assert_broken_off(running, "its process was ended: a test")
    assert text_of(ask(engine)) == expected
    assert engine.restarts.count == times + 1


def test_closing_ends_what_runs(place: Any) -> None:
    engine = place.open()
    running = answered(engine, replace(HELLO, sampling=ENDLESS, max_tokens=None), threading.Event())
    next(running)
    engine.close()
    engine.close()
    assert_broken_off(running, "its process")
    with pytest.raises(GenerationFailed, match="its process has ended"):
        ask(engine)


def without_an_index(folder: Path) -> None:
    (folder / "tensor-cache.json").unlink()


def with_a_format_by_name(folder: Path) -> None:
    file = folder / "mlc-chat-config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "conv_template": "chatml"}), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without_an_index, "tensor-cache"),
        (with_a_format_by_name, "conv_template"),
    ],
)
def test_what_keeps_it_from_loading_is_told_at_once(
    place: Any, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    """MLC raises most of it in a thread of its own, and its constructor waits for ever."""
    config, paths, progress = place.config, place.paths, SilentProgress()
    compiled = built(config, paths, progress)
    windows = windows_for(
        compiled.card.name, compiled.config, config, paths, progress, forgets=compiled.by_mlc
    )
    line, python = first_line(compiled, config, windows), mlc_python(config.mlc.python)
    line["model"] = str(shutil.copytree(compiled.model_dir, tmp_path / "copy"))
    damage(tmp_path / "copy")
    before = threading.active_count()
    with pytest.raises(EngineUnavailable, match=reason) as caught:
        Child("mlc", CHILD, line, timeout_s=300, python=python, refusal=refusal_of)
    assert "did not end" not in str(caught.value) and threading.active_count() == before
