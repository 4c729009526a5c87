"""Step (g): two answers at once, one that is cancelled, and a GPU that is lost in the midst of one.

`serving.py lost` is that last part, in a process of its own, which must end by itself.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from common import EMULATED, Results, folder, manifest, start

from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.tvm.engine import open_model
from edge_router.errors import Cancelled, EngineError, GenerationFailed

COUNT = 24  # tokens of an answer
SAME = 4  # of them at least that are equal alone and beside another: sums are taken in another order
SOON_S = 10.0  # by when whoever waits must have been told
LOST_S = 20.0
ENOUGH = 150  # launches after which the emulated GPU is lost: within the first answer
_TRAP = b".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry lost() { trap; }\n\0"


def main() -> None:
    results = Results("serving")
    start()
    engine = _engine()
    with results.trying("two at once"):
        alone = [_said(engine, text) for text in ("one", "another")]
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda text: _said(engine, text), ("one", "another")))
        equal = [_same(a, b) for a, b in zip(alone, both, strict=True)]
        results.check("two at once", min(equal) >= SAME, equal=equal)
    with results.trying("cancel"):
        cancel, seen = threading.Event(), 0
        begin = time.perf_counter()
        try:
            for _ in answered(engine, _asked("cancelled", 400), cancel):
                seen += 1
                if seen == 3:
                    cancel.set()
            ended = False
        except Cancelled:
            ended = True
        took = time.perf_counter() - begin
        results.check("cancel", ended and took < SOON_S, pieces=seen, seconds=round(took, 3))
        after = _same(_said(engine, "one"), alone[0])
        results.check("the next answer after cancelling", after >= SAME, equal=after)
    engine.close()
    with results.trying("a lost GPU"):
        environment = {**os.environ, **({"EMULATED_LOST": str(ENOUGH)} if EMULATED else {})}
        command = [sys.executable, __file__, "lost"]
        done = subprocess.run(
            command, env=environment, timeout=LOST_S, capture_output=True, text=True, check=False
        )
        told = (done.stdout + done.stderr)[-1500:]
        good = done.returncode == 0 and "Exception in thread" not in told
        results.check("a lost GPU", good, ended_with=done.returncode, told=told)


def lost() -> None:
    """Ends with 0 where everybody is told, at once, and nothing hangs."""
    start()
    engine = _engine()
    told = []
    for number in range(3):
        begin = time.perf_counter()
        try:
            for piece, _ in enumerate(answered(engine, _asked(f"lost {number}", 60), threading.Event())):
                if piece == 2 and number == 0 and not EMULATED:
                    _trap()
        except EngineError as error:
            told.append(error)
            print(number, type(error).__name__, error)  # noqa: T201
        assert time.perf_counter() - begin < SOON_S
    assert told and isinstance(told[0], GenerationFailed), told
    engine.close()
    print("closed")  # noqa: T201
    sys.stdout.flush()
    os._exit(0)  # what is left of CUDA may not end cleanly, and need not


def _trap() -> None:
    """A kernel that stops the GPU's work for this process for good."""
    cuda = ctypes.CDLL("libcuda.so.1")
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    context = ctypes.c_void_p()
    assert cuda.cuInit(0) == 0
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert cuda.cuCtxSetCurrent(context) == 0
    assert cuda.cuModuleLoadData(ctypes.byref(module), _TRAP) == 0
    assert cuda.cuModuleGetFunction(ctypes.byref(function), module, b"lost") == 0
    one = [ctypes.c_uint(1)] * 6
    cuda.cuLaunchKernel(function, *one, ctypes.c_uint(0), None, None, None)


def _engine() -> LocalEngine:
    place = folder(manifest()["served"])
    return open_model(
        place, place / "graphs.so", model_id="served", threads=1, max_sequences=2, device="cuda"
    )


def _asked(text: str, count: int) -> ChatRequest:
    return ChatRequest((), raw_prompt=text, max_tokens=count, sampling=SamplingParams(temperature=0))


def _said(engine: LocalEngine, text: str) -> str:
    return collect(answered(engine, _asked(text, COUNT), threading.Event())).text


def _same(a: str, b: str) -> int:
    """Characters until they differ."""
    return next(
        (n for n, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b))
    )


if __name__ == "__main__":
    lost() if sys.argv[1:] == ["lost"] else main()
