"""The weak engine as its users have it: conversations, many at once, beside other users of TVM."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_router.catalog import find_model
from edge_router.chat.events import Finished
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.config.settings import Config
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.tvm.engine import load, open_model, thread_count
from edge_router.errors import ArtifactMissing, Cancelled, InvalidModel
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def engine(batch_model: Any) -> Iterator[LocalEngine]:
    made = open_model(
        batch_model.model_dir,
        batch_model.library,
        model_id="SmolLM2-135M-Instruct",
        threads=1,
        context_window_size=512,
        max_sequences=3,
    )
    yield made
    made.close()


def asking(*texts: str, **options: Any) -> ChatRequest:
    turns = [Message("assistant" if index % 2 else "user", text) for index, text in enumerate(texts)]
    return ChatRequest(tuple(turns), sampling=options.pop("sampling", GREEDY), **options)


def answer(engine: LocalEngine, request: ChatRequest) -> tuple[str, Finished]:
    deltas = list(answered(engine, request, threading.Event()))
    last = deltas[-1]
    assert isinstance(last, Finished)
    return collect(deltas).text, last


def test_it_knows_the_capital_of_france(engine: LocalEngine) -> None:
    text, last = answer(engine, asking("What is the capital of France?", max_tokens=40))
    assert "Paris" in text
    assert not text.startswith(" ") and "<|" not in text
    assert last.reason == "stop"


def test_the_next_turn_computes_only_what_is_new_and_says_the_same(
    engine: LocalEngine, batch_model: Any
) -> None:
    question = "What is the capital of France?"
    text, first = answer(engine, asking(question, max_tokens=30))
    following = asking(question, text, "And what is the capital of Germany?", max_tokens=12)
    again, second = answer(engine, following)
    assert first.usage is not None and second.usage is not None and second.timings is not None
    assert second.usage.cached_tokens >= first.usage.total_tokens - 1
    assert second.timings.prefill_tokens == second.usage.prompt_tokens - second.usage.cached_tokens
    fresh = open_model(batch_model.model_dir, batch_model.library, model_id="m", threads=1)
    wanted, alone = answer(fresh, following)
    fresh.close()
    assert alone.usage is not None and alone.usage.cached_tokens == 0
    assert again == wanted


def test_answers_at_the_same_time_are_the_answers_one_after_the_other(engine: LocalEngine) -> None:
    requests = [asking(f"Name {number} animals.", max_tokens=24) for number in range(2, 8)]
    alone = [answer(engine, request)[0] for request in requests]
    with ThreadPoolExecutor(6) as pool:
        together = [text for text, _ in pool.map(lambda request: answer(engine, request), requests)]
    # Batched kernels add up in another order, so a tie may fall otherwise: not in most of six answers.
    assert sum(one == other for one, other in zip(alone, together, strict=True)) >= 5


def test_a_long_prompt_beside_a_short_one(engine: LocalEngine) -> None:
    story = "Once upon a time there was a dragon who lived in a cave. " * 20
    requests = [asking("Say yes.", max_tokens=30), asking(story + "Who lived in a cave?", max_tokens=30)]
    with ThreadPoolExecutor(2) as pool:
        short, long = [text for text, _ in pool.map(lambda request: answer(engine, request), requests)]
    assert short and "dragon" in long


def test_a_seed_repeats_an_answer(engine: LocalEngine) -> None:
    def draw(seed: int) -> str:
        warm = SamplingParams(temperature=1.2, top_p=0.95, seed=seed)
        return answer(engine, asking("Invent a word.", max_tokens=24, sampling=warm))[0]

    draw(5)  # from here on the same prefix is kept, so that the same kernels run
    assert draw(5) == draw(5) != draw(6)


def test_a_cancelled_answer_ends(engine: LocalEngine) -> None:
    cancel = threading.Event()
    stream = answered(engine, asking("Tell me a long story."), cancel)
    next(stream)
    cancel.set()
    with pytest.raises(Cancelled):
        list(stream)
    assert answer(engine, asking("Say yes.", max_tokens=3))[0]


def test_a_directory_that_is_no_model_is_refused(batch_model: Any, tmp_path: Any) -> None:
    with pytest.raises(InvalidModel, match=r"mlc-chat-config\.json"):
        open_model(tmp_path, batch_model.library, model_id="m", threads=1)
    for content in ("[]", "{"):
        (tmp_path / "mlc-chat-config.json").write_text(content)
        with pytest.raises(InvalidModel, match=r"mlc-chat-config\.json"):
            open_model(tmp_path, batch_model.library, model_id="m", threads=1)


def test_the_configured_model_is_loaded(built_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    class Steps(SilentProgress):
        def step(self, name: str, total: int | None = None, unit: str = "") -> Any:
            steps.append(name)
            return super().step(name, total, unit)

    config = Config().replace(**{"weak.threads": 1})
    made = load(config, Paths.under(built_home), Steps())
    try:
        assert made.model_id == "SmolLM2-135M-Instruct"
        assert 0 < made.capabilities.context_window <= find_model("SmolLM2-135M-Instruct").context_window_size
        assert steps[-1] == "load"
        assert answer(made, asking("Say yes.", max_tokens=2))[1].reason == "length"
    finally:
        made.close()


def test_a_model_that_may_not_be_built_is_missing(paths: Paths) -> None:
    with pytest.raises(ArtifactMissing, match="SmolLM2-135M-Instruct"):
        load(Config().replace(**{"weak.build": False}), paths, SilentProgress())


def test_threads_are_the_configured_ones_then_tvms_then_the_physical_cores(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_router.device.host", lambda memory: SimpleNamespace(physical_cores=7))
    for variable, wanted in (("", 7), ("many", 7), ("0", 7), ("3", 3)):
        monkeypatch.setenv("TVM_NUM_THREADS", variable)
        assert thread_count(Config(), paths) == wanted
    assert thread_count(Config().replace(**{"weak.threads": 2}), paths) == 2


# ---- in its own process ------------------------------------------------------------------------------------

PRELUDE = """
    import sys, threading
    from pathlib import Path
    from edge_router.chat.message import Message
    from edge_router.chat.reply import collect
    from edge_router.chat.request import ChatRequest, SamplingParams
    from edge_router.engines.base import answered

    def ask(engine, count=6):
        request = ChatRequest(
            (Message("user", "What is the capital of France?"),),
            sampling=SamplingParams(temperature=0), max_tokens=count,
        )
        return collect(answered(engine, request, threading.Event())).text

    def start():
        from edge_router.engines.tvm.engine import open_model
        return open_model(Path(sys.argv[1]), Path(sys.argv[2]), model_id="m", threads=2)
"""


@pytest.fixture
def python(batch_model: Any, strictness: list[str]) -> Callable[[str], str]:
    """`python(program)`: what it prints in a process of its own."""

    def run(program: str) -> str:
        code = textwrap.dedent(PRELUDE) + textwrap.dedent(program)
        done = subprocess.run(
            [sys.executable, *strictness, "-c", code, str(batch_model.model_dir), str(batch_model.library)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def test_it_needs_neither_the_compiler_nor_torch_and_ends_without_close(python: Callable[[str], str]) -> None:
    program = """
        engine = start()
        print(sorted({"tvm", "torch"} & set(sys.modules)), ask(engine))
        stream = answered(engine, ChatRequest((Message("user", "Tell me a story."),)), threading.Event())
        next(stream)
    """
    assert python(program) == "[] The capital of France is Paris\n"


def test_it_runs_where_the_compiler_was_at_work_before(python: Callable[[str], str]) -> None:
    program = """
        import tvm
        from tvm import relax
        engine = start()
        print(ask(engine))
        engine.close()
    """
    assert python(program) == "The capital of France is Paris\n"


def test_the_compiler_may_come_later_and_the_engine_goes_on(python: Callable[[str], str]) -> None:
    program = """
        engine = start()
        print(ask(engine))
        import tvm
        from tvm import relax
        print(ask(engine))
        again = start()
        print(ask(again))
    """
    assert python(program) == "The capital of France is Paris\n" * 3


def test_engines_may_start_at_the_same_time(python: Callable[[str], str]) -> None:
    program = """
        engines = []
        threads = [threading.Thread(target=lambda: engines.append(start())) for _ in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print({ask(engine) for engine in engines})
        for engine in engines: engine.close()
    """
    assert python(program) == "{'The capital of France is Paris'}\n"
