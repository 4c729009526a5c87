"""Every call into TVM, and every choice of a token, runs out of memory once: each ends well, and so does the next.

What fails is a call, by its number, so the test follows whatever the engine comes to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_router.api.client import Controller
from edge_router.engines.local.sampler import Sampler
from edge_router.engines.scripted import ScriptedEngine
from edge_router.engines.tvm import engine as tvm
from edge_router.errors import OutOfMemory
from edge_router.system.paths import Paths
from edge_router.types import Reason

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
_TAKES_NONE = ("clear", "remove_sequence", "popn", "available_pages")  # these only give back, or ask


class Memory:
    """Counts calls that may allocate; the one numbered `fails` finds nothing left."""

    def __init__(self) -> None:
        self.fails: int | None = None
        self.calls: list[str] = []

    def watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if not name.endswith(_TAKES_NONE):
                self.calls.append(name)
                if len(self.calls) == self.fails:
                    raise RuntimeError("std::bad_alloc")
            return function(*arguments, **named)

        return call

    def again(self, fails: int | None) -> None:
        self.calls.clear()
        self.fails = fails


class WatchedRuntime:
    def __init__(self, runtime: Any, memory: Memory) -> None:
        self._runtime, self._memory = runtime, memory

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def get_global_func(self, name: str) -> Any:
        return self._memory.watched(name, self._runtime.get_global_func(name))

    def from_dlpack(self, array: Any) -> Any:
        return self._memory.watched("from_dlpack", self._runtime.from_dlpack)(array)


class WatchedMachine:
    def __init__(self, machine: Any, memory: Memory) -> None:
        self._machine, self._memory = machine, memory

    def implements_function(self, *arguments: Any) -> bool:
        return bool(self._machine.implements_function(*arguments))

    def __getitem__(self, name: str) -> Any:
        return self._memory.watched(name, self._machine[name])


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    from edge_router.compile import link

    memory, load_runtime, load_library = Memory(), tvm.load_runtime, link.load_library
    monkeypatch.setattr(tvm, "load_runtime", lambda: WatchedRuntime(load_runtime(), memory))
    library = memory.watched("load_library", lambda *where: WatchedMachine(load_library(*where), memory))
    monkeypatch.setattr(link, "load_library", library)
    monkeypatch.setattr(Sampler, "choose", memory.watched("choose", Sampler.choose))
    return memory


@pytest.fixture
def controller(built_home: Path, memory: Memory) -> Iterator[Callable[..., Controller]]:
    made: list[Controller] = []

    def make(strong: ScriptedEngine | None = None) -> Controller:
        given = {"router__name": "length", "router__threshold": 1.0, "weak__threads": 2}
        given |= {"ledger__enabled": False, "offline": strong is None}
        made.append(Controller(strong=strong, paths=Paths.under(built_home), **given))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


def ask(controller: Controller) -> str:
    reply = controller.chat.completions.create(messages=QUESTION, max_tokens=3, temperature=0)
    return reply.text


def test_each_call_while_loading_fails_in_turn(controller: Any, memory: Memory) -> None:
    first = controller()
    first.warm()
    loading = list(memory.calls)
    assert {"load_library", "vm.builtin.tensor_cache.load", "from_dlpack"} <= set(loading)
    memory.again(None)
    wanted = ask(first)
    first.close()
    for number, name in enumerate(loading, start=1):
        asked = controller()
        memory.again(number)
        with pytest.raises(OutOfMemory):
            asked.warm()
        assert memory.calls[number - 1] == name
        memory.again(None)
        asked.warm()  # what failed is tried again
        assert ask(asked) == wanted, f"after {name}"
        asked.close()


def test_each_call_of_an_answer_fails_in_turn(controller: Any, memory: Memory) -> None:
    asked = controller()
    asked.warm()
    memory.again(None)
    wanted = ask(asked)
    met = set(memory.calls)
    assert {"paged_prefill", "paged_decode", "choose", "from_dlpack"} <= met
    number, ended = 0, False
    while not ended:
        number += 1
        memory.again(number)
        try:
            ended = ask(asked) == wanted and len(memory.calls) < number
            assert ended, f"call {number} failed and nobody heard of it"
        except OutOfMemory:
            pass
        memory.again(None)
        assert ask(asked) == wanted, f"after call {number}"
    assert number > 10


@pytest.mark.parametrize("loaded", [False, True])
def test_before_the_first_word_the_strong_model_answers_instead(
    controller: Any, memory: Memory, loaded: bool
) -> None:
    """The first call that fails is one of loading, or one of the answer."""
    asked = controller(ScriptedEngine("from afar", model_id="big"))
    if loaded:
        asked.warm()
    memory.again(1)
    reply = asked.chat.completions.create(messages=QUESTION, max_tokens=3, temperature=0)
    assert (reply.text, reply.decision.reason) == ("from afar", Reason.NO_MEMORY)


def test_an_error_that_no_answer_is_to_blame_for_loads_the_model_anew(
    controller: Any, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = controller()
    wanted = ask(asked)
    with monkeypatch.context() as patch:
        patch.setattr(
            "edge_router.engines.local.scheduling.worker.Worker._admit",
            memory.watched("admit", lambda _: None),
        )
        memory.again(1)
        with pytest.raises(OutOfMemory):
            ask(asked)
    memory.again(None)
    assert ask(asked) == wanted and "load_library" in memory.calls
