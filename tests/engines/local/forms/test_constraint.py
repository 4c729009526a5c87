"""Answers that may not say just anything: masks of one's own, and JSON by a schema."""

from __future__ import annotations

import gc
import json
import runpy
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, JsonOutput, Need, Output, TextOutput, TokenMask, Vocabulary
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.forms.constraint import Grammars
from edge_router.errors import Cancelled, EngineUnavailable, InvalidRequest, UnsupportedRequest
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.surfaces.openai.output import read_output
from edge_router.types import Cancel

SCHEMAS = runpy.run_path(str(Path(__file__).with_name("answer_schemas.py")))
fits = runpy.run_path(str(Path(__file__).with_name("small_validator.py")))["fits"]

Make = Callable[..., tuple[LocalEngine, Any]]
Ask = Callable[..., ChatRequest]


class OneOf:
    """A mask that lets one of some texts be said and nothing else: what a user of the hook would write."""

    def __init__(self, vocabulary: Vocabulary, texts: tuple[str, ...]) -> None:
        self._left = [text.encode() for text in texts]
        self._vocabulary = vocabulary

    def allowed(self) -> np.ndarray:
        found = np.zeros(self._vocabulary.size, np.bool_)
        for token in range(self._vocabulary.size):
            piece = self._vocabulary.token_bytes(token)
            found[token] = bool(piece) and any(left.startswith(piece) for left in self._left)
        found[list(self._vocabulary.end_tokens)] = b"" in self._left
        return found

    def accept(self, token: int) -> None:
        piece = self._vocabulary.token_bytes(token)
        self._left = [left[len(piece) :] for left in self._left if left.startswith(piece)]


def one_of(*texts: str) -> Callable[[Vocabulary], TokenMask]:
    return lambda vocabulary: OneOf(vocabulary, texts)


@pytest.fixture(params=["in turns", "overlapping"])
def runner_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def answer(engine: LocalEngine, request: ChatRequest) -> tuple[str, str | None]:
    deltas = list(answered(engine, request, Cancel()))
    return collect(deltas).text, collect(deltas).finish_reason


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_mask_of_ones_own(make_engine: Make, ask: Ask, temperature: float) -> None:
    engine, _ = make_engine(end=True)
    seen = set()
    for seed in range(6):
        request = ask("Is it?", temperature=temperature, seed=seed, mask=one_of("yes", "no", "no idea"))
        text, reason = answer(engine, request)
        assert reason == "stop"
        seen.add(text)
    assert seen <= {"yes", "no", "no idea"} and (len(seen) > 1) == (temperature > 0)


@pytest.mark.parametrize(
    ("form", "fits"),
    [
        ({"type": "json_object"}, lambda found: isinstance(found, dict)),
        (
            {
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "schema": {
                        "type": "object",
                        "properties": {"sure": {"type": "boolean"}, "city": {"enum": ["Paris", "Rome"]}},
                        "required": ["sure", "city"],
                        "additionalProperties": False,
                    },
                },
            },
            lambda found: found["sure"] in (True, False) and found["city"] in ("Paris", "Rome"),
        ),
    ],
)
def test_json_whatever_the_model_would_say(
    make_engine: Make, ask: Ask, form: dict[str, Any], fits: Callable[[Any], bool]
) -> None:
    engine, _ = make_engine(end=True, context=2048)
    assert Need.JSON in engine.capabilities.serves
    reasons = set()
    for seed in range(8):
        request = ask("A city?", temperature=1.0, seed=seed, output=read_output(form), max_tokens=100)
        text, reason = answer(engine, request)
        assert fits(json.loads(text))
        reasons.add(reason)
    assert reasons <= {"stop", "length"}


@pytest.fixture
def grammars(tokenizer: TextTokenizer) -> Iterator[Grammars]:
    end = tokenizer.token("<|im_end|>")
    assert end is not None
    made = Grammars(tokenizer, [end], tokenizer.vocab_size)
    yield made
    made.close()


def at_random(
    grammars: Grammars, tokenizer: TextTokenizer, schema: object, max_tokens: int, seed: int = 0
) -> tuple[bytes, str]:
    """What a model says that takes any token that it may, and how it ended; 'lost': not in time."""
    mask = grammars.json(schema, Cancel()).mask(max_tokens)
    random = np.random.default_rng(seed)
    said: list[int] = []
    while not mask.complete and len(said) < max_tokens:
        token = mask.affordable(int(random.choice(mask.allowed().nonzero()[0])))
        mask.accept(token)
        if token == tokenizer.token("<|im_end|>"):
            break
        said.append(token)
    else:
        if not mask.complete and not mask.cut:
            return b"".join(map(tokenizer.token_bytes, said)), "lost"
    return b"".join(map(tokenizer.token_bytes, said)), "length" if mask.cut else "stop"


@pytest.mark.parametrize("name", SCHEMAS["FOLLOWED"])
def test_answers_fit_their_schema_whatever_the_model_says(
    grammars: Grammars, tokenizer: TextTokenizer, name: str
) -> None:
    """The budgets leave room for the shortest answer, a byte a token, and for more."""
    schema = SCHEMAS["FOLLOWED"][name]
    for seed, max_tokens in enumerate((130, 200, 500)):
        text, _ = at_random(grammars, tokenizer, schema, max_tokens, seed)
        assert fits(json.loads(text), schema), text


def test_an_answer_is_closed_just_in_time(grammars: Grammars, tokenizer: TextTokenizer) -> None:
    """With each budget from the shortest answer's length on, and reported as cut where it was."""
    schema = SCHEMAS["FOLLOWED"]["math steps"]
    shortest = len('{"steps": [], "final_answer": ""}')
    ended = Counter()
    for max_tokens in range(shortest, shortest + 30):
        text, reason = at_random(grammars, tokenizer, schema, max_tokens, seed=max_tokens)
        assert fits(json.loads(text), schema)
        ended[reason] += 1
    assert ended["length"] > 10
    lost, _ = at_random(grammars, tokenizer, schema, shortest - 3)
    with pytest.raises(ValueError, match=r"(?i)expecting|unterminated|utf"):
        json.loads(lost)


@pytest.mark.parametrize("name", SCHEMAS["REFUSED"])
def test_a_schema_that_cannot_be_followed_is_refused_by_name(make_engine: Make, ask: Ask, name: str) -> None:
    engine, runner = make_engine(end=True)
    schema, said = SCHEMAS["REFUSED"][name]
    with pytest.raises(UnsupportedRequest, match=said) as caught:
        answer(engine, ask("Hi", output=JsonOutput(schema), names={Need.JSON: "answer.json"}))
    assert caught.value.param == "answer.json" and len(str(caught.value)) < 400
    assert not runner.count("prefill")


@pytest.mark.parametrize("name", SCHEMAS["WRONG"])
def test_what_is_no_schema_is_refused(make_engine: Make, ask: Ask, name: str) -> None:
    engine, _ = make_engine(end=True)
    schema, said = SCHEMAS["WRONG"][name]
    with pytest.raises(InvalidRequest, match=f"^answer.json: .*{said}"):
        answer(engine, ask("Hi", output=JsonOutput(schema), names={Need.JSON: "answer.json"}))


PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
PERSON["required"] = ["name", "age"]


@pytest.mark.parametrize("padding", [-1, 0, 1, 64])
@pytest.mark.parametrize("end", [True, False])
def test_a_tokenizer_with_more_or_fewer_tokens_than_the_logits(
    make_engine: Make, ask: Ask, padding: int, end: bool
) -> None:
    engine, _ = make_engine(end=end, padding=padding, context=512, end_token=None)
    for seed in range(4):
        request = ask("Who?", temperature=1.0, seed=seed, output=JsonOutput(PERSON), max_tokens=90)
        text, _ = answer(engine, request)
        assert fits(json.loads(text), PERSON)


def test_an_answer_that_is_complete_needs_no_token_for_its_end(make_engine: Make, ask: Ask) -> None:
    engine, runner = make_engine(end=True, end_token=None, context=512)  # it never says one by itself
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"]}
    text, reason = answer(engine, ask("Go", output=JsonOutput(schema), max_tokens=200))
    assert (text, reason) == ('{"a": "x"}', "stop")
    assert runner.count("decode") == len(text) - 1  # a token each, the first by the prompt
    text, reason = answer(engine, ask("Go", output=JsonOutput(schema), max_tokens=len(text)))
    assert (text, reason) == ('{"a": "x"}', "stop")


def test_the_context_ends_an_answer_in_time(make_engine: Make, ask: Ask) -> None:
    engine, _ = make_engine(end=True, end_token=None, context=160)
    deltas = list(answered(engine, ask("Go", temperature=1.0, output=JsonOutput(PERSON)), Cancel()))
    text = collect(deltas).text
    assert fits(json.loads(text), PERSON)
    usage = collect(deltas).usage
    assert usage is not None and usage.total_tokens <= 160


@pytest.mark.parametrize("kind", ["number", "integer"])
def test_a_number_has_an_end(grammars: Grammars, tokenizer: TextTokenizer, kind: str) -> None:
    """Also where the model would say digits for ever; what follows it is the model's own again."""
    schema = {"type": "array", "items": {"type": kind}, "minItems": 2, "maxItems": 2}
    mask = grammars.json(schema, Cancel()).mask(400)
    digits = [token for token in range(tokenizer.vocab_size) if tokenizer.token_bytes(token).isdigit()]
    point = tokenizer.encode(".")[0]
    said = b""
    while not mask.complete:
        allowed = mask.allowed()
        wanted = [token for token in (point, *digits) if allowed[token]] or allowed.nonzero()[0]
        token = mask.affordable(int(wanted[0]))
        mask.accept(token)
        said += tokenizer.token_bytes(token)
    assert fits(json.loads(said), schema) and len(said) < 60 and not mask.cut


def test_a_circle_within_a_text_is_closed(make_engine: Make, ask: Ask, tokenizer: TextTokenizer) -> None:
    engine, runner = make_engine(end=True, end_token=None, context=4000, speaks=tokenizer.encode("a"))
    runner.logits = lambda tokens: circling(tokens, runner.vocab_size, tokenizer.encode("so on and "))
    deltas = list(answered(engine, ask("Go", temperature=0, output=JsonOutput(PERSON)), Cancel()))
    text = collect(deltas).text
    assert fits(json.loads(text), PERSON)
    assert collect(deltas).looped and collect(deltas).finish_reason == "length" and len(text) < 1000


def circling(tokens: list[int], size: int, words: list[int]) -> np.ndarray:
    row = np.zeros(size, np.float32)
    row[words] += 5.0
    row[words[len(tokens) % len(words)]] += 5.0
    return row


def test_the_tokenizer_is_made_where_the_model_is_loaded_ahead_of_questions(
    make_engine: Make, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server warms up; one question, held to nothing, needs none of it and would wait for its processor."""
    began = threading.Event()
    whole = TextTokenizer.vocabulary

    def vocabulary(self: TextTokenizer, size: int) -> list[bytes]:
        began.set()
        return whole(self, size)

    monkeypatch.setattr(TextTokenizer, "vocabulary", vocabulary)
    engine, _ = make_engine(end=True)
    assert not began.is_set()
    engine.load()
    assert began.wait(20)


def test_a_cancel_is_heard_while_the_tokenizer_is_made(tokenizer: TextTokenizer) -> None:
    goes_on = threading.Event()

    class Slow(TextTokenizer):
        def vocabulary(self, size: int) -> list[bytes]:
            goes_on.wait(20)
            return super().vocabulary(size)

    grammars, cancel = Grammars(Slow(tokenizer.file), [1], tokenizer.vocab_size), Cancel()
    cancel.set()
    with pytest.raises(Cancelled):
        grammars.json({}, cancel)
    goes_on.set()
    assert grammars.json({}, Cancel()).mask(100).allowed().any()
    grammars.close()


def test_nothing_is_left_of_a_grammar_that_nobody_has(tokenizer: TextTokenizer) -> None:
    own = TextTokenizer(tokenizer.file)
    grammars, seen = Grammars(own, [1], own.vocab_size), weakref.ref(own)
    assert grammars.json({"type": "object"}, Cancel()).mask(100).allowed().any()
    grammars.close()
    del grammars, own
    for _ in range(400):  # the threads end in their own time
        gc.collect()
        if seen() is None:
            return
        time.sleep(0.05)
    raise AssertionError("the tokenizer is still held")


def test_after_close_it_is_closed(make_engine: Make, ask: Ask) -> None:
    engine, _ = make_engine(end=True, context=400)
    request = ask("Go", output=JsonOutput(PERSON), max_tokens=60)
    answer(engine, request)
    engine.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        answer(engine, request)


def test_many_answers_at_once_each_with_its_form(make_engine: Make, ask: Ask) -> None:
    engine, _ = make_engine(end=True, context=400, sequences=6)
    found: dict[str, tuple[str, str | None]] = {}

    def run(name: str, form: Output) -> None:
        found[name] = answer(engine, ask(f"{name}?", temperature=1.0, output=form, max_tokens=150))

    names = ["person", "tree", "math steps", "mapping", "event"]
    threads = [
        threading.Thread(target=run, args=(name, JsonOutput(SCHEMAS["FOLLOWED"][name]))) for name in names
    ]
    threads.append(threading.Thread(target=run, args=("plain", TextOutput())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found.keys() == {*names, "plain"}
    for name in names:
        assert fits(json.loads(found[name][0]), SCHEMAS["FOLLOWED"][name])
