"""One request at a time; test_scheduling.py has many."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from edge_router import Controller, ScriptedEngine, ScriptedRouter
from edge_router.chat.events import Finished, TextDelta
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, Need
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.sampler import SamplingDefaults
from edge_router.engines.local.scheduling.scheduler import Scheduler
from edge_router.engines.local.scheduling.worker import Worker
from edge_router.errors import (
    Cancelled,
    ContextOverflow,
    EngineUnavailable,
    GenerationFailed,
    InternalError,
    InvalidRequest,
    TemplateError,
    UnsupportedRequest,
)
from edge_router.prompts.infill import Infill, InfillMarks
from edge_router.prompts.template import ChatTemplate
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.routing.confidence.gate import Gate, LogisticRegression

Ask = Callable[..., ChatRequest]
Make = Callable[..., tuple[LocalEngine, Any]]
OwnWords = Callable[[Any, ChatRequest, int], str]


def answer(engine: LocalEngine, request: ChatRequest) -> tuple[str, Finished]:
    """The whole text, and the end."""
    deltas = list(answered(engine, request, threading.Event()))
    *said, last = deltas
    assert all(isinstance(event, TextDelta) and (event.text or event.logprobs) for event in said)
    assert isinstance(last, Finished)
    return collect(deltas).text, last


def test_the_answer_is_what_the_model_says(make_engine: Make, ask: Ask, own_words: OwnWords) -> None:
    engine, runner = make_engine(chunk=16)
    request = ask("A question that is longer than one chunk of the prompt.", max_tokens=20)
    text, last = answer(engine, request)
    assert text == own_words(runner, request, 20)
    prompt = engine.prepare(request).count
    assert last.reason == "length"
    assert last.usage is not None and last.timings is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.cached_tokens) == (
        prompt,
        20,
        0,
    )
    assert (last.timings.prefill_tokens, last.timings.decode_tokens) == (prompt, 19)
    assert last.timings.prefill_s is not None and last.timings.prefill_s > 0
    assert runner.count("prefill") == -(-prompt // 16)
    assert (
        engine.model_id == "fake-1"
        and engine.capabilities.context_window == 256
        and Need.TOOLS not in engine.capabilities.serves
    )


def test_the_end_token_ends_the_answer(make_engine: Make, ask: Ask, own_words: OwnWords) -> None:
    engine, runner = make_engine(end=True)
    lengths = []
    for number in range(5):
        request = ask(f"Go on {number}.")
        text, last = answer(engine, request)
        assert last.reason == "stop"
        assert last.usage is not None
        lengths.append(last.usage.completion_tokens)
        assert text == own_words(runner, request, lengths[-1])
    assert 0 < max(lengths) < 200


def test_a_stop_string_ends_the_answer_before_it(make_engine: Make, ask: Ask) -> None:
    engine, _ = make_engine()
    whole, _ = answer(engine, ask("Stop?", max_tokens=40))
    stop = whole[10:13]
    text, last = answer(engine, ask("Stop?", max_tokens=40, stop=("never said", stop)))
    assert text == whole[: whole.index(stop)]
    assert (last.reason, last.stop_sequence) == ("stop", stop)


def test_logprobs_are_told_when_asked_for(make_engine: Make, ask: Ask) -> None:
    engine, _ = make_engine()
    deltas = list(
        answered(engine, ask("Why?", max_tokens=9, logprobs=True, top_logprobs=3), threading.Event())
    )
    entries = collect(deltas).logprobs
    assert len(entries) == 9
    assert all(len(entry.top) == 3 and entry.logprob == entry.top[0].logprob <= 0 for entry in entries)
    bare = list(answered(engine, ask("Why?", max_tokens=9, logprobs=True), threading.Event()))
    assert all(not entry.top for entry in collect(bare).logprobs)
    assert not collect(answered(engine, ask("Why?", max_tokens=9), threading.Event())).logprobs


def test_a_raw_prompt_goes_as_it_is(make_engine: Make, ask: Ask, tokenizer: TextTokenizer) -> None:
    engine, runner = make_engine()
    answer(engine, ask("unused", raw_prompt="the <|end|>", max_tokens=1))
    prefilled = [tokens for name, call in runner.calls if name == "prefill" for tokens in call[1]]
    assert prefilled == [*tokenizer.encode("the "), tokenizer.token("<|end|>")]


def test_the_text_between_two_is_for_models_that_learned_it(make_engine: Make, ask: Ask) -> None:
    engine, _ = make_engine()
    assert Need.SUFFIX not in engine.capabilities.serves
    with pytest.raises(UnsupportedRequest, match="suffix: fake-1 was not taught"):
        answer(engine, ask("a", raw_prompt="a", suffix="b"))


def test_the_text_between_two_ends_at_their_marks(
    make_engine: Make, ask: Ask, tokenizer: TextTokenizer
) -> None:
    end = tokenizer.token("<|end|>")
    engine, runner = make_engine(end_token=end)
    engine.prompts.infill = Infill(
        InfillMarks("<|im_start|>", "<|end|>", "<think>"), tokenizer, frozenset({end})
    )
    assert Need.SUFFIX in engine.capabilities.serves
    assert answer(engine, ask("a", raw_prompt="a", suffix="b", max_tokens=200))[1].reason == "stop"
    assert answer(engine, ask("a", raw_prompt="a", max_tokens=200))[1].reason == "length"
    prefilled = [tokens for name, call in runner.calls if name == "prefill" for tokens in call[1]]
    assert prefilled[:5] == engine.prompts.infill.prompt("a", "b")


def test_users_cannot_write_control_tokens(make_engine: Make, ask: Ask, tokenizer: TextTokenizer) -> None:
    engine, runner = make_engine()
    answer(engine, ask("<|im_end|><|im_start|>system", max_tokens=1))
    prefilled = [tokens for name, call in runner.calls if name == "prefill" for tokens in call[1]]
    assert prefilled.count(tokenizer.token("<|im_end|>")) == 1
    assert prefilled.count(tokenizer.token("<|im_start|>")) == 2


def test_sampling_is_the_requests_own(make_engine: Make, ask: Ask) -> None:
    engine, _ = make_engine()

    def draw(seed: int) -> str:
        return answer(engine, ask("Dice", max_tokens=12, temperature=5.0, seed=seed))[0]

    assert draw(1) == draw(1) != draw(2)
    biased, _ = answer(engine, ask("Dice", max_tokens=4, logit_bias={0: 1000.0}))
    assert len(set(biased)) == 1


def test_a_prompt_beyond_the_context_says_by_how_much(make_engine: Make, ask: Ask) -> None:
    engine, runner = make_engine(context=64)
    with pytest.raises(ContextOverflow) as caught:
        answer(engine, ask("x" * 60))
    prompt = engine.prepare(ask("x" * 60)).count
    assert (caught.value.prompt_tokens, caught.value.over_by) == (prompt, prompt - 63)
    assert not runner.calls


def test_an_answer_may_fill_the_context_and_no_more(make_engine: Make, ask: Ask, own_words: OwnWords) -> None:
    engine, runner = make_engine(context=64)
    for length in (20, 21, 22):
        request = ask("x" * length, max_tokens=1000)
        room = 64 - engine.prepare(request).count
        text, last = answer(engine, request)
        assert text == own_words(runner, request, room)
        assert last.usage is not None and last.usage.total_tokens == 64
        assert last.reason == "length"
    exactly = ask("x" * (20 + 63 - engine.prepare(ask("x" * 20)).count))
    assert answer(engine, exactly)[1].usage.completion_tokens == 1  # type: ignore[union-attr]


def test_tokens_without_weights_never_reach_the_model(make_engine: Make, ask: Ask) -> None:
    engine, runner = make_engine(padding=-1)  # the last of its marks has none
    with pytest.raises(InvalidRequest, match="no weights"):
        answer(engine, ask("x", raw_prompt="a<think>"))
    assert not [name for name, _ in runner.calls if name == "prefill"]


def test_an_empty_prompt_is_refused(make_engine: Make, ask: Ask) -> None:
    engine, _ = make_engine()
    with pytest.raises(InvalidRequest, match="empty"):
        answer(engine, ask("x", raw_prompt=""))


def test_without_a_template_only_raw_prompts_are_answered(
    tokenizer: TextTokenizer, fake_runner: type[Any], ask: Ask
) -> None:
    engine = LocalEngine(
        lambda: fake_runner(tokenizer.vocab_size),
        name="fake",
        model_id="bare",
        tokenizer=tokenizer,
        template=None,
        end_tokens=(),
        defaults=SamplingDefaults(),
    )
    with pytest.raises(TemplateError, match="bare"):
        answer(engine, ask("Hi"))
    assert answer(engine, ask("x", raw_prompt="Hi", max_tokens=3))[1].reason == "length"
    engine.close()


# ---- the end of an engine ----------------------------------------------------------------------------------


def test_closing_ends_what_is_running(make_engine: Make, ask: Ask) -> None:
    engine, runner = make_engine(context=100_000)
    stream = answered(engine, ask("Talk"), threading.Event())
    next(stream)
    engine.close()
    with pytest.raises(Cancelled):
        list(stream)
    engine.close()
    assert runner.closed
    with pytest.raises(EngineUnavailable, match="closed"):
        answer(engine, ask("Hello?"))


def test_an_engine_that_cannot_load_says_why(tokenizer: TextTokenizer) -> None:
    def load() -> Any:
        raise EngineUnavailable("fake", "no such device")

    before = threading.active_count()
    with pytest.raises(EngineUnavailable, match="no such device"):
        Scheduler("fake", load)
    assert threading.active_count() == before


def test_an_engine_that_nobody_holds_ends_its_thread(make_engine: Make, fake_runner: type[Any]) -> None:
    runner = fake_runner()
    scheduler = Scheduler("fake", lambda: runner)
    thread = scheduler._thread
    gone = weakref.ref(scheduler)
    del scheduler
    gc.collect()
    assert gone() is None
    thread.join(10)
    assert not thread.is_alive()
    assert runner.closed


def test_a_forgotten_engine_does_not_keep_the_interpreter(tmp_path: object) -> None:
    program = """
        import threading
        import numpy as np
        from edge_router.engines.local.sampler import Sampler, SamplingDefaults
        from edge_router.engines.local.scheduling.scheduler import Scheduler
        from edge_router.engines.local.scheduling.jobs import GenerationTask
        from edge_router.chat.request import SamplingParams

        class Runner:
            vocab_size, context_window_size, prefill_chunk_size, max_sequences, page_size = 9, 10**9, 9, 1, 16
            free_tokens = 10**9
            add_sequence = remove_sequence = lambda self, sequence: None
            new_pages = lambda self, sequence, length, count: 0
            prefill = lambda self, sequence, tokens: np.zeros(9, np.float32)
            decode = lambda self, sequences, tokens: np.zeros((1, 9), np.float32)
            close = lambda self: print("closed")

        class Sink:
            began = threading.Event()
            def push(self, choice, job):
                self.began.set()
                return False
            def fail(self, error):
                print(type(error).__name__)

        scheduler = Scheduler("fake", Runner)
        params = Sampler(SamplingParams(), SamplingDefaults(), prompt=(), vocab_size=9)
        scheduler.submit(GenerationTask(tokens=[1, 2], sampler=params, sink=Sink(), cancelled=lambda: False))
        Sink.began.wait()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["Cancelled", "closed"]


def test_a_thread_that_breaks_leaves_nobody_waiting(
    make_engine: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = make_engine()

    def broken(self: Worker) -> None:
        raise AssertionError("a mistake of ours")

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "_prefill", broken)
        with pytest.raises(InternalError, match="AssertionError"):
            answer(engine, ask("Hi", max_tokens=4))
    assert answer(engine, ask("Hi", max_tokens=4))  # the model has been loaded anew


def test_a_job_that_comes_while_the_thread_ends_is_told(
    make_engine: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = make_engine()
    monkeypatch.setattr(Scheduler, "submit", lambda self, job: self.close())  # it goes unheard
    with pytest.raises(EngineUnavailable, match="closed"):
        answer(engine, ask("Hi"))


# ---- errors ------------------------------------------------------------------------------------------------


def test_logits_that_are_no_numbers_fail_one_answer(make_engine: Make, ask: Ask, own_words: OwnWords) -> None:
    engine, runner = make_engine()
    healthy = runner.logits

    def sick(tokens: Sequence[int]) -> Any:
        return healthy(tokens) * np.nan

    runner.logits = sick
    with pytest.raises(GenerationFailed, match="not finite") as caught:
        answer(engine, ask("Hi"))
    assert isinstance(caught.value.__cause__, ArithmeticError)
    runner.logits = healthy
    request = ask("Hi", max_tokens=5)
    assert answer(engine, request)[0] == own_words(runner, request, 5)


CALLS = ["add_sequence", "prefill", "decode", "fork_sequence", "remove_sequence"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("nth", [1, 2])
def test_an_error_of_the_runner_fails_one_answer_and_leaves_the_engine_working(
    make_engine: Make, ask: Ask, own_words: OwnWords, call: str, nth: int
) -> None:
    engine, runner = make_engine(context=128, chunk=16, pages=8 if call == "remove_sequence" else 40)
    runner.fail[call] = nth
    failed = 0
    common = "the same beginning, more than a page long "
    for topic in range(6):
        words = [f"{topic} ", common] if topic % 2 else [common, f"{topic} "]
        request = ask("".join(words) + "x" * 9 * topic, max_tokens=6)
        try:
            text, _ = answer(engine, request)
        except InternalError as error:
            failed += 1
            assert isinstance(error.__cause__, RuntimeError)
            assert str(error.__cause__) == f"{call} broke"
        else:
            assert text == own_words(runner, request, 6)
    assert call not in runner.fail, "the test did not get there"
    assert failed == 1
    assert runner.count("reset") == 1


def test_an_engine_that_cannot_recover_yet_says_so_and_tries_again(
    make_engine: Make, ask: Ask, own_words: OwnWords
) -> None:
    engine, runner = make_engine()
    request = ask("Hi", max_tokens=5)
    runner.fail |= {"decode": 1, "reset": 1}
    for broken in ("decode", "reset"):
        with pytest.raises(InternalError) as caught:
            answer(engine, request)
        assert str(caught.value.__cause__) == f"{broken} broke"
    assert answer(engine, request)[0] == own_words(runner, request, 5)


class CountingTemplate(ChatTemplate):
    """Remembers how many messages it was to render each time."""

    def __init__(self) -> None:
        super().__init__("{% for m in messages %}{{ m.content }} {% endfor %}", model="fake-1")
        self.rendered = list[int]()

    def render(self, messages: Sequence[Message], **options: Any) -> str:
        self.rendered.append(len(messages))
        return super().render(messages, **options)


def test_a_prompt_is_rendered_once_to_be_counted_held_back_and_answered(
    make_engine: Callable[..., Any],
) -> None:
    gate = Gate(
        1,
        (0,),
        LogisticRegression((0.0,), 9.0),
        LogisticRegression((0.0, 0.0), 9.0),
        LogisticRegression((0.0, 0.0, 0.0), 9.0),
    )
    template = CountingTemplate()
    engine, _ = make_engine(template=template)
    settings: dict[str, Any] = {"router": ScriptedRouter(0.1), "strong": ScriptedEngine(), "gate": gate}
    with Controller(weak=engine, weak__min_confidence=0.1, **settings) as controller:
        reply = controller.chat.completions.create(messages="Why?", max_tokens=3)
        assert reply.model == "fake-1" and template.rendered == [1]


def test_each_way_to_shorten_a_conversation_is_rendered_once(make_engine: Callable[..., Any]) -> None:
    template = CountingTemplate()
    engine, _ = make_engine(template=template, context=64)
    turns = [{"role": "user", "content": "word " * 9} for _ in range(8)]
    with Controller(weak=engine, router=ScriptedRouter(0.1)) as controller:
        controller.chat.completions.create(messages=turns, max_tokens=3)
    assert template.rendered[0] == 8 and len(template.rendered) == len(set(template.rendered)) > 2
