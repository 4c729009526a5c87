"""One side of a measurement, in its own process: `python -m edge_router.bench.weak_sides NAME OPTIONS`.

Reads a line of JSON, answers with a number: seconds for "prefill", "decode", "ttft" and "python", bytes for
"peak".
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_router.chat.events import EngineTimings, Finished
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.device.process import peak_bytes
from edge_router.engines.base import answered
from edge_router.parsing import strict_json

if TYPE_CHECKING:
    from edge_router.engines.local.runner import ModelRunner

_GREEDY = SamplingParams(temperature=0)
_SAMPLED = SamplingParams(temperature=0.7)


class Ours:
    """Through the engine as users have it, so the scheduling, the sampling and the text count."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        from edge_router.engines.local.engine import LocalEngine
        from edge_router.engines.local.sampler import SamplingDefaults
        from edge_router.prompts.directory import ModelDirectory

        directory = ModelDirectory.read(Path(options["model_dir"]), "bench")
        self._made: list[ModelRunner] = []
        self._gpu_free = _gpu_free() if on_cuda(options) else None  # before anything is there

        def load() -> ModelRunner:
            self._made.append(RUNNERS[options["engine"]](directory.path, options))
            return self._made[-1]

        self._engine = LocalEngine(
            load,
            name=options["engine"],
            model_id="bench",
            tokenizer=directory.tokenizer,
            template=directory.template,
            answers=directory.answers,
            end_tokens=(),  # an answer that ends early would be no measurement
            defaults=SamplingDefaults.from_config(directory.config),
        )

    def prefill(self, text: str, ids: list[int]) -> float:
        """Seconds to read a prompt of which nothing is known, up to the choice of the next token."""
        timings = self._timings(text, 1)
        if timings.prefill_tokens < len(ids) - 16:
            raise ValueError("the prompt was known already")
        return timings.prefill_s or 0.0

    def decode(self, text: str, ids: list[int], count: int) -> float:
        """Seconds for `count` greedy tokens after the first one."""
        return self._timings(text, count + 1).decode_s or 0.0

    def ttft(self, text: str) -> float:
        """From the question to the first piece of the answer, the template and the tokenizer included."""
        request = ChatRequest(
            (Message("system", text), Message("user", text)), sampling=_GREEDY, max_tokens=2
        )
        begin = time.perf_counter()
        stream = answered(self._engine, request, threading.Event())
        next(stream)
        seconds = time.perf_counter() - begin
        list(stream)
        return seconds

    def python(self, text: str, count: int) -> float:
        """Seconds of each sampled token in which nothing compiled runs: scheduling, choosing, its text."""
        with _compiled(self._made[-1]) as calls:
            timings = self._timings(text, count + 1, _SAMPLED)
        return ((timings.prefill_s or 0.0) + (timings.decode_s or 0.0) - sum(calls)) / count

    def peak(self) -> int:
        """Bytes: of the process, or of the GPU's memory, which the runtime keeps until the end."""
        return peak_bytes() if self._gpu_free is None else self._gpu_free - _gpu_free()

    def _timings(self, text: str, count: int, sampling: SamplingParams = _GREEDY) -> EngineTimings:
        request = ChatRequest((), sampling=sampling, max_tokens=count, raw_prompt=text)
        *_, last = answered(self._engine, request, threading.Event())
        assert isinstance(last, Finished) and last.timings is not None
        return last.timings


@contextmanager
def _compiled(runner: Any) -> Iterator[list[float]]:
    """Seconds of each call that engine tvm makes of what is compiled."""
    from tvm_ffi import Function

    calls: list[float] = []

    def timed(function: Any) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                calls.append(time.perf_counter() - begin)

        return run

    own = vars(runner._cache)
    functions = {name: value for name, value in own.items() if isinstance(value, Function)}
    own.update({name: timed(function) for name, function in functions.items()})
    try:
        yield calls
    finally:
        own.update(functions)


def _tvm(model_dir: Path, options: Mapping[str, Any]) -> ModelRunner:
    from edge_router.engines.tvm.engine import TvmRunner

    return TvmRunner(
        model_dir,
        Path(options["library"]),
        context_window_size=options["context_window_size"],
        prefill_chunk_size=options["prefill_chunk_size"],
        max_sequences=options.get("max_sequences", 1),
        threads=options["threads"],
        device=options["device"],
        speculation=False,  # which would flatter us where an answer goes in circles; see `bench.speculation`
    )


def on_cuda(options: Mapping[str, Any]) -> bool:
    return str(options["engine"]) == "tvm" and str(options["device"]).startswith("cuda")


def _gpu_free() -> int:
    from edge_router.device import gpus

    return next((gpu.memory_free for gpu in gpus() if gpu.memory_free is not None), 0)


def _webgpu(model_dir: Path, options: Mapping[str, Any]) -> ModelRunner:
    from edge_router.engines.webgpu.adapters import adapters, choose
    from edge_router.engines.webgpu.runner import WebGpuRunner
    from edge_router.engines.webgpu.weights import DirectoryWeights
    from edge_router.webgpu_program import Windows, read_program

    windows = Windows(options["context_window_size"], options["prefill_chunk_size"])
    adapter = choose(options["device"], adapters())
    program = read_program(Path(options["library"]))
    return WebGpuRunner(adapter, program, windows, DirectoryWeights(model_dir).read)


RUNNERS: Mapping[str, Callable[[Path, Mapping[str, Any]], ModelRunner]] = {"tvm": _tvm, "webgpu": _webgpu}


def main(name: str, options: str) -> None:
    """`name`: for whoever looks at the processes."""
    serve(Ours, options)


def serve(make: Callable[[Mapping[str, Any]], Any], options: str) -> None:
    """Answer lines of JSON from standard input, each by the method that it names."""
    # Libraries write to standard output as they please: give them the other one.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    given = strict_json.parse_object(options)
    side = make(given)
    for line in sys.stdin:
        question = strict_json.parse_object(line)
        what = question.pop("what")
        value = getattr(side, what)(**question)
        answers.write(f"{value!r}\n")
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
