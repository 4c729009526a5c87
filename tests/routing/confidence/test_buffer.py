"""The weak model's first tokens held back: who answers, what is shown, and what is written down."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.api.async_client import AsyncController
from edge_router.api.client import Controller
from edge_router.chat.events import Event, Finished, HiddenState, TextDelta, TokenLogprob, Usage
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest
from edge_router.config.settings import Config
from edge_router.engines.base import Prompt
from edge_router.engines.scripted import Reply, ScriptedEngine
from edge_router.errors import Cancelled, GenerationFailed, LowConfidence, StrongFailed, StrongUnreachable
from edge_router.ledger import Ledger
from edge_router.routing.confidence.buffer import ConfidenceBuffer
from edge_router.routing.confidence.gate import Gate, LogisticRegression
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.surfaces.openai.parse import parse_chat
from edge_router.system.paths import Paths
from edge_router.types import Reason

EASY = 0.1
HELLO = [{"role": "user", "content": "hello there"}]
NOTHING = LogisticRegression((), 0.0)
GATE = Gate(
    3, (), NOTHING, LogisticRegression((2.0, 1.0), 3.0), LogisticRegression((0.0, 0.0, 0.0), 0.0)
)  # by log probabilities alone
PROBE = Gate(
    0,
    (5, 6),
    LogisticRegression((1.0, -1.0), 0.0),
    LogisticRegression((0.0, 0.0), 0.0),
    LogisticRegression((0.0, 0.0, 0.0), 0.0),
)


def said(text: str, logprob: float) -> TextDelta:
    return TextDelta(text, (TokenLogprob(text, logprob, text.encode()),))


SURE = [said(word, -0.01) for word in ("I ", "know ", "this ", "well.")]
UNSURE = [said(word, -4.0) for word in ("Perhaps ", "it ", "may ", "be.")]


def controller(
    weak: ScriptedEngine,
    *replies: Reply,
    gate: Gate = GATE,
    bound: float | None = 0.5,
    strong: bool = True,
    **settings: object,
) -> Controller:
    return Controller(
        weak=weak,
        strong=ScriptedEngine(*(replies or ("S",)), model_id="big") if strong else None,
        router=ScriptedRouter(EASY),
        gate=gate,
        weak__min_confidence=bound,
        **settings,  # type: ignore[arg-type]
    )


def small(*replies: Reply) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="small", serves=())


def request(**fields: object) -> ChatRequest:
    return parse_chat({"messages": HELLO, **fields}).request


def test_an_unsure_answer_is_the_strong_models_from_its_first_word_on(paths: Paths) -> None:
    weak = small(UNSURE)
    with controller(weak, "Surely.") as asked:
        answer = asked.start(request())
        assert collect(answer).text == "Surely."
        rendered = asked.metrics.render()
    decision = answer.decision
    assert (answer.model, decision.model, decision.reason) == ("big", "strong", Reason.LOW_CONFIDENCE)
    assert decision.confidence is not None and decision.confidence < 0.01 and decision.score == EASY
    assert isinstance(answer.fallback_cause, LowConfidence) and answer.spent == Usage(2, 3)
    (record,) = Ledger(paths.ledger).recent()
    assert (record.decision, record.cause, record.spent) == (decision, "LowConfidence", Usage(2, 3))
    assert record.model == "big" and record.usage is not None
    assert 'edge_router_tokens_total{tier="weak",kind="completion"} 3' in rendered
    assert 'edge_router_requests_total{tier="strong",reason="low_confidence"} 1' in rendered


def test_in_a_conversation_that_stays_with_the_weak_model_too() -> None:
    """Whose score is above the threshold, so that its doubt counts all the more."""
    first = [*SURE, Finished("stop", Usage(90_000, 1))]
    with controller(small(first, UNSURE), "Surely.") as asked:
        said = collect(asked.start(request())).text
        turns = [*HELLO, {"role": "assistant", "content": said}, {"role": "user", "content": "and?"}]
        asked._pool.router(None).answer = 0.6  # type: ignore[attr-defined]
        assert asked.route(turns).reason is Reason.SESSION
        answer = asked.start(parse_chat({"messages": turns}).request)
        assert (answer.model, answer.decision.reason, answer.decision.held) == ("big", "low_confidence", None)


def test_a_sure_answer_is_shown_whole_and_without_what_was_looked_at(paths: Paths) -> None:
    with controller(small(SURE)) as asked:
        answer = asked.start(request())
        deltas = list(answer)
    assert collect(deltas).text == "I know this well."
    assert not collect(deltas).logprobs and not any(isinstance(event, HiddenState) for event in deltas)
    assert answer.decision.reason is Reason.SCORE and (answer.decision.confidence or 0) > 0.9
    (record,) = Ledger(paths.ledger).recent()
    assert record.decision.confidence == answer.decision.confidence and record.spent is None


def test_the_first_token_counts_from_when_it_is_shown() -> None:
    gate = threading.Event()
    weak = small([SURE[0], gate, *SURE[1:]])
    with controller(weak) as asked:
        timer = threading.Timer(0.2, gate.set)
        timer.start()
        answer = asked.start(request())
        list(answer)
        timer.join()
    assert answer.timings.ttft_ms is not None and answer.timings.ttft_ms >= 150


def test_a_reader_who_asks_for_logprobs_gets_all_of_them() -> None:
    with controller(small(SURE)) as asked:
        deltas = list(asked.start(request(logprobs=True)))
    assert [entry.token for entry in collect(deltas).logprobs] == ["I ", "know ", "this ", "well."]


def test_the_engine_is_asked_for_no_more_than_is_needed() -> None:
    weak = small(SURE, SURE)
    with controller(weak) as asked:
        list(asked.start(request()))
        list(asked.start(request(model="weak")))
    held, forced = weak.calls
    assert (
        held.logprobs and held.signals is not None and (held.signals.tokens, held.signals.alone) == (3, True)
    )
    assert forced.signals is None and not forced.logprobs


@pytest.mark.parametrize(
    ("fields", "settings", "reason"),
    [
        ({"model": "weak"}, {}, Reason.FORCED),
        ({}, {"offline": True}, Reason.SCORE),
        ({}, {"strong": False}, Reason.SCORE),
        ({}, {"bound": None}, Reason.SCORE),
    ],
)
def test_what_may_not_leave_is_shown_however_unsure(
    fields: dict[str, object], settings: dict[str, object], reason: Reason
) -> None:
    with controller(small(UNSURE), **settings) as asked:  # type: ignore[arg-type]
        answer = asked.start(request(**fields))
        assert collect(answer).text == "Perhaps it may be."
    assert (answer.decision.reason, answer.decision.confidence) == (reason, None)


def test_a_private_question_stays_here() -> None:
    private = ChatRequest((Message("user", "my illness"),), private=True)
    with controller(small(UNSURE)) as asked:
        assert asked.start(private).model == "small"


@pytest.mark.parametrize(
    "error", [StrongUnreachable("http://x", "refused"), StrongFailed("http://x", 400, "no")]
)
def test_an_unsure_answer_is_better_than_none(error: Exception, paths: Paths) -> None:
    with controller(small(UNSURE, "W"), error) as asked:
        answer = asked.start(request())
        assert collect(answer).text == "W"
    assert (answer.model, answer.decision.reason) == ("small", Reason.STRONG_UNAVAILABLE)
    assert answer.fallback_cause is error and answer.decision.confidence is not None


def test_a_failure_while_it_is_held_back_is_the_weak_models() -> None:
    with controller(small([SURE[0], GenerationFailed("tvm", "boom")])) as asked:
        answer = asked.start(request())
        assert collect(answer).text == "S"
    assert answer.decision.reason is Reason.WEAK_UNAVAILABLE


def test_it_can_be_cancelled_while_it_is_held_back() -> None:
    begun, cancel = threading.Event(), threading.Event()

    def never(request: ChatRequest) -> Reply:
        begun.set()
        return [SURE[0], threading.Event()]

    with controller(small(never)) as asked:
        canceller = threading.Thread(target=lambda: (begun.wait(), cancel.set()))
        canceller.start()
        with pytest.raises(Cancelled):
            asked.start(request(), cancel)
        canceller.join()


@pytest.mark.parametrize("short", [1, 2])
def test_an_answer_that_ends_early_is_judged_by_what_there_is(short: int) -> None:
    with controller(small(UNSURE[:short], SURE[:short])) as asked:
        assert [asked.start(request()).model for _ in range(2)] == ["big", "small"]


def test_an_engine_that_shows_nothing_is_believed() -> None:
    with controller(small("Plain words.")) as asked:
        answer = asked.start(request())
        assert (answer.model, answer.decision.confidence) == ("small", None)


@pytest.mark.parametrize(("state", "model"), [((0.0, 4.0), "big"), ((4.0, 0.0), "small")])
def test_the_probe_decides_before_the_first_token(state: tuple[float, ...], model: str) -> None:
    stuck = threading.Event()
    stuck.set()
    weak = small([HiddenState(state), stuck, "words"])
    with controller(weak, gate=PROBE) as asked:
        answer = asked.start(request())
        text = collect(answer).text
    assert answer.model == model and text == {"big": "S", "small": "words"}[model]
    assert not weak.calls[0].logprobs
    if model == "big":
        assert answer.spent == Usage(2, 0)


def test_without_a_calibration_nothing_happens_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    config = Config.load(environ={}, overrides={"weak.min_confidence": 0.9})
    weak, strong = small(UNSURE, UNSURE), ScriptedEngine(model_id="big")
    with Controller(config, weak=weak, strong=strong, router=ScriptedRouter(EASY)) as asked:
        assert [asked.start(request()).model for _ in range(2)] == ["small", "small"]
    (warning,) = caplog.messages
    assert "calibrate --confidence" in warning


@given(
    values=st.lists(st.floats(-9, 0), min_size=1, max_size=8),
    cut=st.integers(1, 8),
    bound=st.floats(0, 1),
)
def test_either_everything_is_shown_or_nothing(values: Sequence[float], cut: int, bound: float) -> None:
    gate = Gate(cut, (), NOTHING, GATE.said, GATE.both)
    deltas = [said(f"{place} ", value) for place, value in enumerate(values)]
    closed: list[int] = []

    def stream() -> Iterator[Event]:
        try:
            yield from deltas
        finally:
            closed.append(1)

    holding = ConfidenceBuffer(gate, bound, ChatRequest((Message("user", "x"),)))
    chance = gate.chance((), values)
    assert chance is not None
    shown = holding.sure(stream())
    if chance < bound:
        with pytest.raises(LowConfidence) as caught:
            next(shown)
        assert caught.value.tokens <= cut
    else:
        assert collect(shown).text == collect(deltas).text
    assert closed == [1] and holding.chance == chance


def test_a_task_that_is_cancelled_while_it_is_held_back_ends_the_weak_model() -> None:
    begun, ended = threading.Event(), threading.Event()

    class Watched(ScriptedEngine):
        def stream(self, prompt: Prompt, cancel: threading.Event) -> Iterator[Event]:
            try:
                yield from super().stream(prompt, cancel)
            finally:
                ended.set()

    def never(request: ChatRequest) -> Reply:
        begun.set()
        return [SURE[0], threading.Event()]

    async def leave() -> None:
        held = controller(Watched(never, model_id="small", serves=()))
        async with AsyncController(held) as asked:
            task = asyncio.create_task(asked.start(request()))
            await asyncio.to_thread(begun.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(ended.wait, 5)

    asyncio.run(leave())


def test_the_server_tells_the_reason_and_keeps_the_body_openais() -> None:
    """Streamed too: nothing of the weak answer is in it."""
    with controller(small(UNSURE, SURE)) as asked:
        for words, model in (("S", "big"), ("I know this well.", "small")):
            with asked.chat.completions.create(messages=HELLO, stream=True) as stream:
                chunks = [chunk.to_dict() for chunk in stream]
            assert stream.model == model
            choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]  # type: ignore[index]
            assert "".join(choice["delta"].get("content") or "" for choice in choices) == words
            assert all(choice["logprobs"] is None for choice in choices)


def test_an_answer_that_is_held_to_a_form_is_shown(paths: Paths) -> None:
    """Of words that it would not have chosen itself a model is never sure."""
    forced = replace(request(), mask=lambda vocabulary: None)
    with controller(small(UNSURE)) as asked:
        assert asked.start(forced).model == "small"
