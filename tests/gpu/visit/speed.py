"""Step (c): `speed.py NAME`, prefill and decode of one shape with drawn weights, with CUDA graphs and without.

The share of the memory's bandwidth is of what copies reach on the same GPU in the same minute.
"""

from __future__ import annotations

import ctypes
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import EMULATED, Drawn, Memory, Results, chat, folder, manifest, start

from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.sampler import SamplingDefaults
from edge_router.engines.tvm.device import Device
from edge_router.engines.tvm.runtime import load_runtime
from edge_router.prompts.directory import ModelDirectory
from edge_router.vram import Settings
from edge_router.vram.shapes import ModelShape
from edge_router.vram.speed import bytes_per_token

DECODED = 16 if EMULATED else 64
PAST = 32  # tokens before what is decoded


def main(name: str) -> None:
    results, described = Results("speed"), manifest()
    device, memory = start(), Memory()
    bandwidth = _bandwidth(device, memory, described["copied_bytes"])
    results.figures(name, bandwidth_bytes_per_s=round(bandwidth))
    config = chat(name)
    numbers = {"model_type": config["model_type"], **config["model_config"]}
    form = Settings(str(config["quantization"]), 2 * (PAST + DECODED // 2), 64)
    read = bytes_per_token(ModelShape.of(numbers, name), form)
    results.figures(name, bytes_per_token=read, bound_ms=round(1000 * read / bandwidth, 4))
    for library in ("cuda", "graphs"):
        with results.trying(f"{name} {library}"):
            _measure(results, name, library, memory, read / bandwidth)


def _measure(results: Results, name: str, library: str, memory: Memory, bound_s: float) -> None:
    most = manifest()["prefill"][-1]
    runner = Drawn(
        folder(name), folder(name) / f"{library}.so", context_window_size=most + 256, prefill_chunk_size=2048,
        max_sequences=4, device="cuda",
    )  # fmt: skip
    tokens = np.random.default_rng(3).integers(0, 250, most + 256).tolist()
    prefill = {}
    for length in manifest()["prefill"]:
        seconds = _best(lambda length=length: _prefill(runner, tokens[:length], memory), 3)
        prefill[str(length)] = round(length / seconds, 1)
    results.figures(name, **{f"{library}_prefill_tokens_per_s": prefill})
    _prefill(runner, tokens[:PAST], memory)
    found = _decoded(runner, memory)
    share = bound_s / (found["token_ms"] / 1000)
    results.figures(name, **{f"{library}_decode": found, f"{library}_bandwidth_share": round(share, 3)})
    results.check(f"{name} {library} ran", found["token_ms"] > 0)
    runner.close()
    if library == "graphs":
        with results.trying(f"{name} engine"):
            results.figures(name, engine_tokens_per_s=_engine(name, library))


def _prefill(runner: Drawn, tokens: list[int], memory: Memory) -> None:
    runner.reset()
    runner.add_sequence(0)
    chunk = runner.prefill_chunk_size
    for first in range(0, len(tokens), chunk):
        runner.prefill(0, tokens[first : first + chunk])
    memory.wait()


def _decoded(runner: Any, memory: Memory) -> dict[str, Any]:
    """Milliseconds of a token, and where they go: its parts are medians of their own."""
    cache = runner._cache
    spent: dict[str, list[float]] = {}
    clocked = {
        name: _clocked(spent, name, getattr(cache, f"_{name}"))
        for name in ("embed", "decode", "begin", "end")
    }
    whole, launched, counts = [], [], []
    runner.decode([0], [1])  # the first captures graphs
    for name, function in clocked.items():
        setattr(cache, f"_{name}", function)
    for token in range(DECODED):
        before = _launches()
        begin = time.perf_counter()
        logits = cache.decode([0], [token % 250])
        middle = time.perf_counter()
        row = runner._device.get(logits)
        row.argmax()
        whole.append(time.perf_counter() - begin)
        launched.append(middle - begin)
        counts.append([after - was for after, was in zip(_launches(), before, strict=True)])
    medians = {name: statistics.median(values) for name, values in spent.items()}
    started = statistics.median(launched)
    free = _unread(cache, memory)
    return {
        "token_ms": _ms(statistics.median(whole)),
        "token_ms_unread": _ms(free),  # nobody waits for the logits: what the GPU and the launches allow
        "launches_ms": _ms(medians["embed"] + medians["decode"]),
        "cache_ms": _ms(medians["begin"] + medians["end"]),
        "python_ms": _ms(started - sum(medians.values())),
        "waiting_ms": _ms(statistics.median(whole) - started),  # for the GPU, and for its logits
        **({"launches": counts[-1]} if EMULATED else {}),
    }


def _clocked(spent: dict[str, list[float]], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    times = spent.setdefault(name, [])

    def run(*arguments: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            times.append(time.perf_counter() - begin)

    return run


def _unread(cache: Any, memory: Memory) -> float:
    memory.wait()
    begin = time.perf_counter()
    for token in range(DECODED // 2):
        cache.decode([0], [token])
    memory.wait()
    return (time.perf_counter() - begin) / (DECODED // 2)


def _launches() -> list[int]:
    """Emulated: kernels launched one by one, graphs, kernels within them."""
    if not EMULATED:
        return []
    return list((ctypes.c_uint64 * 3).in_dll(ctypes.CDLL("libcuda.so.1"), "emulated_counts"))


def _engine(name: str, library: str) -> float:
    """Greedy tokens per second as users have them: scheduling, choosing and text included."""
    directory = ModelDirectory.read(folder(name), name)
    engine = LocalEngine(
        lambda: Drawn(
            folder(name), folder(name) / f"{library}.so", context_window_size=512, prefill_chunk_size=64,
            device="cuda",
        ),
        name="tvm", model_id=name, tokenizer=directory.tokenizer, template=None, end_tokens=(),
        defaults=SamplingDefaults.from_config(directory.config),
    )  # fmt: skip
    try:
        rates = []
        for number in range(3):
            asked = ChatRequest(
                (), raw_prompt=f"{number} the", max_tokens=DECODED, sampling=SamplingParams(temperature=0)
            )
            timings = list(answered(engine, asked, threading.Event()))[-1].timings
            assert timings is not None and timings.decode_s and timings.decode_tokens
            rates.append(timings.decode_tokens / timings.decode_s)
        return round(max(rates), 1)
    finally:
        engine.close()


def _bandwidth(device: Device, memory: Memory, count: int) -> float:
    """Bytes per second, read and written, of copies within the GPU."""
    copy = load_runtime().get_global_func("runtime.TVMTensorCopyFromTo")
    source, target = (device.empty((count,), "uint8") for _ in range(2))

    def run() -> None:
        for _ in range(8):
            copy(source, target)
        memory.wait()

    return 8 * 2 * count / _best(run, 4)


def _best(run: Callable[[], None], times: int) -> float:
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        found.append(time.perf_counter() - begin)
    return min(found)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 4)


if __name__ == "__main__":
    main(sys.argv[1])
