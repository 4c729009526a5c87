"""A program in a process of its own: it ends when it should, whatever it does."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from edge_router.errors import Cancelled, EngineUnavailable, GenerationFailed, InternalError
from edge_router.system.child_process import start
from edge_router.system.worker_process import Child

COUNTS = """
import asyncio, sys, threading
from edge_router.system.worker_process import serve

async def answer(held, name, call):
    print("chatter on stdout")
    for number in range(call["to"]):
        await asyncio.sleep(0)
        yield {"id": "its own", "number": number, "name": name, "held": held}
    if call.get("fail"):
        raise KeyError("lost")
    if call.get("thread"):
        threading.Thread(target=die).start()
    if call.get("wait"):
        await asyncio.sleep(600)

def die():
    raise ValueError("of a thread")

def load(start):
    if start.get("thread"):
        threading.Thread(target=die).start()
    if start.get("hang"):
        print("loading", file=sys.stderr, flush=True)
        threading.Event().wait()
    if start.get("import"):
        import another_package
    if start.get("mistake"):
        start["nothing"]
    return start["held"]

serve(load, answer, lambda held: None)
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counts.py").write_text(COUNTS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_calls_are_answered_each_with_its_own_lines() -> None:
    child = Child("counter", "counts", {"held": "x"}, timeout_s=60)
    try:
        first, second = (child.call({"to": 3}, threading.Event()) for _ in range(2))
        assert [next(first)["number"], next(second)["number"]] == [0, 0]
        lines = [*first]
        assert [line.get("number") for line in lines] == [1, 2, None]
        assert lines[0]["held"] == "x" and lines[-1]["end"] is True
        assert len(list(second)) == 3
    finally:
        child.close()


def test_what_it_raises_comes_over_with_its_kind() -> None:
    child = Child("counter", "counts", {"held": 0}, timeout_s=60)
    try:
        *_, last = child.call({"to": 1, "fail": True}, threading.Event())
        assert (last["kind"], last["error"]) == ("KeyError", "'lost'")
    finally:
        child.close()


def test_cancelled_and_closed() -> None:
    child = Child("counter", "counts", {"held": 0}, timeout_s=60)
    cancel = threading.Event()
    running = child.call({"to": 1, "wait": True}, cancel)
    assert next(running)["number"] == 0
    cancel.set()
    with pytest.raises(Cancelled):
        next(running)
    child.close()
    child.close()
    with pytest.raises(GenerationFailed, match="the engine counter failed while generating: its process"):
        list(child.call({"to": 1}, threading.Event()))


def test_loading_that_hangs_is_ended_and_its_last_words_are_told() -> None:
    before = set(threading.enumerate())  # of which some may end meanwhile
    with pytest.raises(EngineUnavailable, match="did not end within 3 s; its last words: loading"):
        Child("counter", "counts", {"hang": True}, timeout_s=3)
    assert set(threading.enumerate()) <= before


def test_a_program_that_cannot_start() -> None:
    with pytest.raises(EngineUnavailable, match=r"ended while loading; its last words: .*no_such_program"):
        Child("counter", "no_such_program", {}, timeout_s=60)


def test_it_does_not_outlive_its_parent_even_while_loading() -> None:
    with start(["-m", "counts"], stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(b'{"hang": true}\n')
        process.stdin.flush()
        assert process.stderr.readline().strip() == b"loading"
        process.stdin.close()
        assert process.wait(60) == 1


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
def test_what_its_python_says_when_it_starts_is_no_answer(tmp_path: Path) -> None:
    """Such as a `sitecustomize`, or a script around it."""
    (tmp_path / "sitecustomize.py").write_text("print('noise', [], flush=True)", encoding="utf-8")
    child = Child("counter", "counts", {"held": "x"}, timeout_s=60)
    try:
        assert len([*child.call({"to": 2}, threading.Event())]) == 3
    finally:
        child.close()


def test_what_another_package_lacks_is_told_and_is_no_mistake_of_ours(tmp_path: Path) -> None:
    """As mlc_llm says it of a TVM that it was not made for."""
    (tmp_path / "another_package.py").write_text("import types\ntypes.Constant\n", encoding="utf-8")
    with pytest.raises(EngineUnavailable, match="AttributeError: module 'types' has no attribute 'Constant'"):
        Child("counter", "counts", {"import": True}, timeout_s=60)
    with pytest.raises(InternalError, match=r"KeyError at .*counts\.py"):
        Child("counter", "counts", {"mistake": True}, timeout_s=60)


def test_how_it_ended_is_told_without_what_it_said() -> None:
    killed, left = (Child("counter", "counts", {"held": 0}, timeout_s=60) for _ in range(2))
    try:
        os.kill(killed._process.pid, signal.SIGKILL)
        assert killed.wait() == "its process was ended by SIGKILL" and not killed.running
        left.kill("it stalled")
        assert left.wait() == "its process was ended: it stalled" and not left.running
        with pytest.raises(GenerationFailed, match="its process was ended: it stalled"):
            list(left.call({"to": 1}, threading.Event()))
    finally:
        killed.close()
        left.close()


def test_a_thread_that_dies_is_told_to_who_waits_whatever_it_did() -> None:
    child = Child("counter", "counts", {"held": 0}, timeout_s=60)
    try:
        *_, last = child.call({"to": 1, "thread": True, "wait": True}, threading.Event())
        assert (last["kind"], last["error"]) == ("ValueError", "of a thread")
        with pytest.raises(GenerationFailed, match="its process"):
            list(child.call({"to": 1}, threading.Event()))
    finally:
        child.close()


def test_a_thread_that_dies_while_loading_is_told_at_once() -> None:
    with pytest.raises(EngineUnavailable, match="the engine counter cannot start: ValueError: of a thread"):
        Child("counter", "counts", {"thread": True, "hang": True}, timeout_s=600)
