"""What was read of a prompt's beginning comes back from the disk, and the answer is the same to the letter."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_router.chat.events import Usage
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, SamplingParams, Tool
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.prompt import Prompter
from edge_router.engines.local.scheduling.prefixes import LEAST, Keeper
from edge_router.engines.local.scheduling.sequences import common_prefix
from edge_router.prompts.answer_format import AnswerFormat
from edge_router.prompts.template import ChatTemplate
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.store import ArtifactStore
from edge_router.store.prefixes import KIND, PrefixStore
from edge_router.types import SilentProgress

TEMPLATES = runpy.run_path(str(Path(__file__).parents[3] / "prompts" / "tool_templates.py"))
SYSTEM = "You are terse. " * 12  # 180 tokens of the byte tokenizer
Make = Callable[..., tuple[LocalEngine, Any]]


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def start(make_engine: Make, saving_runner: Any, tmp_path: Path, notes: Notes) -> Make:
    """start(**runner's arguments): as after a restart, with the same disk."""

    def started(*, kind: Any = None, most: int = 1 << 20, **options: Any) -> tuple[LocalEngine, Any]:
        options.setdefault("context", 1024)
        engine, runner = make_engine(kind=kind or saving_runner, **options)
        store = PrefixStore(tmp_path, most, notes)
        engine.keeper = Keeper(
            store, {"model": "fake"}, lambda request: request.keep is not None, engine.prompts.beginning
        )
        return engine, runner

    return started


def asked(question: str, *, system: str = SYSTEM, **more: Any) -> ChatRequest:
    more.setdefault("keep", "cache")
    more.setdefault("max_tokens", 8)
    sampling = SamplingParams(temperature=more.pop("temperature", 0.0), seed=5)
    return ChatRequest((Message("system", system), Message("user", question)), sampling=sampling, **more)


def run(engine: LocalEngine, request: ChatRequest) -> tuple[str, Usage]:
    reply = collect(list(answered(engine, request, threading.Event())))
    assert reply.usage is not None
    return reply.text, reply.usage


def kept(folder: Path) -> list[int]:
    """How many tokens each has."""
    return sorted(int(str(each.inputs["tokens"])) for each in ArtifactStore(folder).scan(KIND).records)


def test_after_a_restart_only_what_is_new_is_read(start: Make, tmp_path: Path, notes: Notes) -> None:
    for temperature in (0.0, 0.9):
        plain, alone = start()
        wanted = run(plain, asked("Who?", keep=None, temperature=temperature))[0]
        plain.close()
        assert alone.count("save") == 0
        first, _ = start()
        request = asked("Who?", temperature=temperature)
        assert run(first, request)[0] == wanted
        first.close()  # as a program that ends with its answer
        again, other = start()
        text, usage = run(again, request)
        (length,) = kept(tmp_path)
        assert text == wanted and usage.cached_tokens == length > len(SYSTEM) - 16
        assert (
            sum(len(call[1]) for name, call in other.calls if name == "prefill") + length
            == usage.prompt_tokens
        )
        assert run(again, asked("And who else?"))[1].cached_tokens >= length  # now from memory
        assert other.count("restore") == 1 and other.count("save") == 0
        again.close()
    assert not notes.lines


def test_nothing_is_written_while_somebody_waits_and_nothing_that_was_not_marked(
    start: Make, tmp_path: Path
) -> None:
    engine, runner = start(sequences=2)
    run(engine, asked("Who?", keep=None))
    run(engine, asked("Who?", system="Short."))  # fewer tokens than are worth a file
    run(engine, replace(asked("x"), messages=(Message("user", SYSTEM), Message("user", "Who?"))))
    run(engine, ChatRequest((), raw_prompt=SYSTEM, keep="cache", max_tokens=2))
    assert not kept(tmp_path)
    run(engine, asked("Who?"))
    engine.close()
    assert len(kept(tmp_path)) == 1
    names = [name for name, _ in runner.calls]
    assert names.index("save") > max(at for at, name in enumerate(names) if name == "decode")
    raw = next((tmp_path / KIND).glob("*/pages.bin")).read_bytes()
    assert len(raw) == runner.saved_bytes(kept(tmp_path)[0])


def test_what_is_kept_ends_before_the_first_turn_in_every_template(tokenizer: TextTokenizer) -> None:
    tool = Tool("weather", "Tells it.", {"type": "object", "properties": {}})
    telling = 0
    for name, source in TEMPLATES["FAMILIES"].items():
        template = ChatTemplate(source, model="m")
        prompter = Prompter("m", tokenizer, template, AnswerFormat.of(template, tokenizer.added))

        def beginning(request: ChatRequest, prompter: Prompter = prompter) -> str:
            tokens = list(prompter.prepare(request).tokens or ())
            some = tokens[: common_prefix(prompter.beginning(request), tokens)]
            return b"".join(map(tokenizer.token_bytes, some)).decode()

        for tools in ((), (tool,)):
            plain = [replace(asked(question), tools=tools) for question in ("Quo vadis?", "Where?", "Qu")]
            turns = (*plain[0].messages, Message("assistant", "I."), Message("user", "Quo?"))
            texts = {beginning(request) for request in (*plain, replace(plain[0], messages=turns))}
            # Some tell of tools in the last turn, behind what was said.
            assert len(texts) == 1 or tools, (name, texts)
            telling += any("weather" in text for text in texts)
            assert not any("Qu" in text for text in texts), (name, texts)
            assert tools or SYSTEM.strip() in texts.pop(), name
    assert telling > 3


def test_a_program_that_ends_with_its_answer_has_kept_it(start: Make, tmp_path: Path) -> None:
    engine, runner = start()
    decode = runner.decode

    def ending(*given: Any) -> Any:
        if runner.count("decode") == 6:  # the last one of eight tokens
            engine._scheduler._inbox.put(None)
        return decode(*given)

    runner.decode = ending
    run(engine, asked("Who?"))
    engine.close()
    assert len(kept(tmp_path)) == 1


def test_another_caller_and_another_text_have_their_own(start: Make, tmp_path: Path) -> None:
    for request in (asked("a"), asked("a", caller="ann"), asked("a", system=SYSTEM + "Be kind.")):
        for known in (False, True):
            engine, runner = start()
            assert (run(engine, request)[1].cached_tokens > 0) is known
            engine.close()
            assert (runner.count("restore"), runner.count("save")) == (known, not known)
    assert len(kept(tmp_path)) == 3


def test_what_lies_in_memory_unmarked_is_kept_once_it_is_marked(start: Make, tmp_path: Path) -> None:
    engine, runner = start()
    run(engine, asked("Who?", keep=None))
    assert run(engine, asked("Who else?"))[1].cached_tokens > len(SYSTEM)
    run(engine, asked("And who?"))
    engine.close()
    assert len(kept(tmp_path)) == runner.count("save") == 1


def test_a_damaged_file_costs_a_reading(start: Make, tmp_path: Path, notes: Notes) -> None:
    engine, _ = start()
    wanted = run(engine, asked("Who?"))[0]
    engine.close()
    file = next((tmp_path / KIND).glob("*/pages.bin"))
    file.write_bytes(file.read_bytes()[::-1])
    engine, runner = start()
    text, usage = run(engine, asked("Who?"))
    assert text == wanted and usage.cached_tokens == 0
    assert len(notes.lines) == 1 and "read again" in notes.lines[0]
    assert len(runner.sequences) == 1  # what was damaged takes no page
    engine.close()
    assert len(kept(tmp_path)) == 1  # and is there again


def test_it_takes_no_page_beyond_those_that_there_are(start: Make, tmp_path: Path) -> None:
    engine, _ = start()
    first = run(engine, asked("Who?"))[0]
    engine.close()
    pages = 16
    engine, runner = start(pages=pages, context=256)
    long = ChatRequest((Message("user", "y" * 150),), max_tokens=8, sampling=SamplingParams(temperature=0.0))
    run(engine, long)  # lies in memory, and has to go
    text, usage = run(engine, asked("Who?"))
    assert text == first and usage.cached_tokens == kept(tmp_path)[0]
    assert runner.free_tokens >= 0 and len(runner.sequences) == 1
    engine.close()
    engine, runner = start(pages=pages, context=256, sequences=2)
    runner.gate = threading.Event()
    thread = threading.Thread(target=run, args=(engine, long))
    thread.start()
    assert runner.entered.wait(20)  # somebody holds ten of the sixteen pages
    waiting = threading.Thread(target=run, args=(engine, asked("Who?")))
    waiting.start()
    runner.gate.set()
    thread.join(20)
    waiting.join(20)
    assert run(engine, asked("Who?"))[0] == first


def test_a_device_that_cannot_says_so_once_and_reads(
    start: Make, fake_runner: Any, tmp_path: Path, notes: Notes
) -> None:
    engine, _ = start(kind=fake_runner)
    texts = {run(engine, asked("Who?"))[0] for _ in range(2)}
    assert len(texts) == 1 and len(notes.lines) == 1 and "reads it with each start" in notes.lines[0]
    engine.close()
    assert not kept(tmp_path)


def test_a_window_that_has_moved_on_leaves_nothing_to_keep(
    start: Make, saving_runner: Any, tmp_path: Path, notes: Notes
) -> None:
    engine, runner = start()
    runner.has_all = lambda sequence, length: False
    run(engine, asked("Who?"))
    engine.close()
    assert not kept(tmp_path) and "no longer holds all of it" in notes.lines[0]


def test_what_is_worth_a_file(start: Make) -> None:
    engine, _ = start()
    assert engine.keeper is not None
    for length, worth in ((LEAST - 40, False), (LEAST + 40, True)):
        request = asked("Who?", system="x" * length)
        tokens = list(engine.prepare(request).tokens or ())
        assert (engine.keeper.of(request, tokens) is not None) is worth
