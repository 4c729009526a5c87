"""Memory that runs out, at every point in turn, and a model that goes and comes back; with the real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from edge_router.api.client import Controller
from edge_router.chat.reply import collect
from edge_router.config.settings import Config
from edge_router.device import Gpu, host, process
from edge_router.engines.local.runner import is_exhausted
from edge_router.engines.local.scheduling.jobs import UnloadPolicy
from edge_router.engines.scripted import ScriptedEngine
from edge_router.engines.tvm import memory
from edge_router.engines.tvm.memory import Residence
from edge_router.errors import OutOfMemory
from edge_router.prompts.directory import ModelDirectory
from edge_router.surfaces.openai.parse import parse_chat
from edge_router.system.paths import Paths
from edge_router.types import Reason, SilentProgress
from edge_router.vram import budget

MIB = 1 << 20
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def residence(built_model: Any, built_home: Path) -> Residence:
    return make(built_model, built_home)


def make(built: Any, home: Path, notes: Notes | None = None, **settings: object) -> Residence:
    config = Config().replace(**{name.replace("__", "."): value for name, value in settings.items()})
    progress = notes or SilentProgress()
    paths = Paths.under(home)
    return Residence("demo", built.config, built.library, config, paths, progress, threads=2)


def with_free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The machine has so much left, as planning and watching see it."""
    here = host(ask_llvm=lambda: ("generic", ()))  # LLVM itself would take memory here
    monkeypatch.setattr(budget, "host", lambda memory: replace(here, memory_free=count))
    monkeypatch.setattr(memory, "free_memory", lambda: count)


def test_it_is_planned_with_the_windows_of_the_library(residence: Residence, built_model: Any) -> None:
    assert residence.plan is None and not residence.pressed()
    settings = residence.settings()
    assert settings.context_window_size == built_model.config["context_window_size"]
    assert residence.plan is not None and residence.plan.fits
    assert residence.plan.bytes("parameters") == 75_715_200


def test_less_memory_is_a_shorter_context_and_then_none(
    built_model: Any, built_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    residence = make(built_model, built_home, notes)
    with_free(monkeypatch, 200 * MIB)
    settings = residence.settings()
    assert 1024 <= settings.context_window_size < 4096
    assert len(notes.texts) == 1 and "context_window_size 4096 became" in notes.texts[0]
    with_free(monkeypatch, 90 * MIB)
    with pytest.raises(OutOfMemory) as caught:
        residence.settings()
    assert caught.value.needed is not None and caught.value.needed > 90 * MIB


def test_a_system_that_refuses_is_believed(residence: Residence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "can_reserve", lambda count: False)
    with pytest.raises(OutOfMemory, match="refuses"):
        residence.settings()


def test_others_that_take_what_was_planned_are_noticed(
    residence: Residence, monkeypatch: pytest.MonkeyPatch
) -> None:
    residence.settings()
    with_free(monkeypatch, 10 * MIB)
    assert residence.pressed()
    assert not residence.pressed(), "not again at once"
    with_free(monkeypatch, 1 << 40)
    assert not residence.pressed()


def test_a_gpus_memory_is_planned_against_what_is_free_there_and_taken_at_once(
    built_model: Any, built_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "gpus", lambda: (Gpu("A", "nvidia", 12 << 30, 1 << 30),))
    monkeypatch.setattr(memory, "can_reserve", lambda count: False)
    monkeypatch.setattr(memory, "free_memory", lambda: 0)
    residence = make(built_model, built_home, weak__device="cuda")
    assert residence.settings().context_window_size == 4096 and not residence.pressed()
    assert residence.plan is not None and residence.plan.budget == int(0.9 * (1 << 30))


@pytest.mark.parametrize(
    ("error", "exhausted"),
    [
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA: out of memory"), True),
        (RuntimeError("CUDALaunch Error: CUDA_ERROR_OUT_OF_MEMORY"), True),
        (RuntimeError("CUDALaunch Error: CUDA_ERROR_ILLEGAL_ADDRESS"), False),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_which_errors_mean_that_memory_ran_out(error: Exception, exhausted: bool) -> None:
    assert is_exhausted(error) is exhausted


def test_a_tokenizer_that_has_no_room_is_not_begun(built_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_router.prompts.directory.can_reserve", lambda count: False)
    with pytest.raises(OutOfMemory, match="tokenizer"):
        ModelDirectory.read(built_model.model_dir, "m")


@pytest.fixture
def controller(built_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """controller(strong=..., **settings): over the built model; closed at the end."""
    made: list[Controller] = []

    def make_(strong: ScriptedEngine | None = None, **settings: object) -> Controller:
        given = {"router__name": "length", "weak__threads": 2, "offline": strong is None} | settings
        made.append(Controller(strong=strong, paths=Paths.under(built_home), **given))  # type: ignore[arg-type]
        return made[-1]

    yield make_
    for each in made:
        each.close()


def test_without_memory_the_strong_model_answers_and_says_why(controller: Any) -> None:
    strong = ScriptedEngine("from afar", model_id="big")
    asked = controller(strong, weak__vram_budget="120MiB", router__threshold=1.0)
    answer = asked.start(parse_chat({"messages": QUESTION}).request)
    assert (answer.model, answer.decision.reason) == ("big", Reason.NO_MEMORY)
    assert isinstance(answer.fallback_cause, OutOfMemory)
    answer.close()


def test_without_either_it_is_a_clear_error_and_the_next_try_may_succeed(
    controller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = controller()
    with monkeypatch.context() as patch:
        with_free(patch, 50 * MIB)
        with pytest.raises(OutOfMemory, match="does not fit"):
            asked.chat.completions.create(messages=QUESTION, max_tokens=8)
    with pytest.raises(OutOfMemory, match="does not fit"):  # remembered for a while
        asked.chat.completions.create(messages=QUESTION, max_tokens=8)
    asked.warm()
    assert "Paris" in asked.chat.completions.create(messages=QUESTION, max_tokens=8).text


def test_a_model_crowded_out_between_two_questions_comes_back_smaller(
    controller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = controller()
    first = asked.chat.completions.create(messages=QUESTION, max_tokens=8, temperature=0).text
    engine = asked._pool.weak()
    assert engine.plan is not None and engine.capabilities.context_window == 4096
    untouched = engine.plan.total - process.resident_bytes()
    again = ""
    for free in range(150, 1500, 25):  # what this process can give back depends on the tests before
        with_free(monkeypatch, free * MIB)
        monkeypatch.setattr(memory, "free_memory", lambda: untouched // 4)
        with suppress(OutOfMemory):
            again = asked.chat.completions.create(messages=QUESTION, max_tokens=8, temperature=0).text
            break
    assert again == first and 1024 <= engine.capabilities.context_window < 4096


def test_a_model_crowded_out_in_the_midst_of_an_answer_goes_on_smaller_and_says_so(
    built_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Residence, "rest", property(lambda self: UnloadPolicy(None, self.pressed, look_s=0.0))
    )
    given = {"router__name": "length", "weak__threads": 2, "offline": True, "ledger__enabled": False}
    given["weak__max_sequences"] = 1  # of several it would give up all but one before it gets shorter
    notes, request = Notes(), parse_chat({"messages": QUESTION, "max_tokens": 16, "temperature": 0}).request
    with Controller(paths=Paths.under(built_home), progress=notes, **given) as asked:  # type: ignore[arg-type]
        asked.warm()
        engine = asked._pool.weak()
        assert (
            engine.plan is not None
        )  # its margin grows with what the tests before have left in this process
        fixed = sum(engine.plan.bytes(part) for part in ("parameters", "workspace", "margin"))
        with_free(monkeypatch, fixed + engine.plan.bytes("kv_cache") // 2)
        looks = count()  # the first when the question comes, the others between two tokens
        monkeypatch.setattr(memory, "free_memory", lambda: 0 if next(looks) > 4 else 1 << 40)
        text = collect(asked.start(request)).text
        assert text.startswith("The capital of France is Paris")
        assert 1024 <= engine.capabilities.context_window < 4096
        assert ["context_window_size 4096 became" in text for text in notes.texts] == [True]


def test_an_idle_model_gives_its_memory_back(controller: Any) -> None:
    asked = controller(weak__unload_after_s=0.05)
    first = asked.chat.completions.create(messages=QUESTION, max_tokens=8, temperature=0).text
    engine = asked._pool.weak()
    gone = threading.Event()
    while engine.loaded:
        assert not gone.wait(0.01)
    resting = process.resident_bytes()
    assert asked.chat.completions.create(messages=QUESTION, max_tokens=8, temperature=0).text == first
    while engine.loaded:
        assert not gone.wait(0.01)
    process.give_back()
    assert process.resident_bytes() < resting + 16 * MIB


SWEEP = """
import gc, json, resource, sys
from edge_router.api.client import Controller
from edge_router.engines.tvm import memory
from edge_router.errors import EdgeRouterError
step = int(sys.argv[1]) << 20
memory.can_reserve = lambda count: True  # so that it fails in the midst of things
question = [{"role": "user", "content": "What is the capital of France?"}]

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

def limit(more):
    resource.setrlimit(resource.RLIMIT_AS, (more, resource.RLIM_INFINITY))

def ask(controller):
    answer = controller.chat.completions.create(messages=question, max_tokens=8, temperature=0)
    return answer.text

settings = {"offline": True, "weak__threads": 2, "router__name": "length", "ledger__enabled": False}
with Controller(**settings) as first:
    wanted = ask(first)
outcomes, more = [], 0
while outcomes[-2:] != ["answer", "answer"]:
    with Controller(**settings) as controller:
        limit(used() + more)
        try:
            outcome = "answer" if ask(controller) == wanted else "another answer"
        except EdgeRouterError as error:
            outcome = f"{type(error).__name__}: {error}"
        limit(resource.RLIM_INFINITY)
        controller.warm()  # what failed is tried again
        again = ask(controller)
        outcomes.append(outcome if again == wanted else f"{outcome}, then {again!r}")
    gc.collect()
    more += step
print(json.dumps(outcomes))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux counts it")
@pytest.mark.slow  # test_tvm_faults.py has each call fail in turn
def test_allocation_that_fails_at_any_point_ends_in_an_error_or_an_answer(
    built_home: Path,
) -> None:
    """The limit rises step by step; after each failure the same process answers."""
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, "24"],
        env={**os.environ, "EDGE_ROUTER_HOME": str(built_home)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert outcomes[-1] == "answer"
    failed = [outcome for outcome in outcomes if outcome != "answer"]
    assert len(failed) >= 6 and all(outcome.startswith("OutOfMemory: ") for outcome in failed), failed
    # How memory is laid out decides which points the steps meet, but they meet different ones.
    assert len(set(failed)) >= 2, failed


ONE_AFTER_THE_OTHER = """
import os, sys
from pathlib import Path
from edge_router import Controller
from edge_router.device.process import resident_bytes

threads, memory = [], []
for number in range(14):
    with Controller(offline=True, weak__threads=2, weak__context_window_size=512) as controller:
        controller.chat.completions.create(messages="Hi", max_tokens=2)
    tasks = Path("/proc/self/task")
    threads.append(len(os.listdir(tasks)) if tasks.is_dir() else 0)
    memory.append(resident_bytes() >> 20)
assert max(threads[3:]) <= max(threads[:3]), threads
# The C library has an arena for each of the first threads. A leak of 5 would be 20 by then.
assert min(memory[11:]) <= max(memory[5:8]) + 10, memory
"""


def test_controllers_that_are_closed_leave_no_thread_and_no_memory(built_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "EDGE_ROUTER_HOME": str(built_home)},
    )
    assert done.returncode == 0, done.stderr
