"""What the steps of a visit share: the pack, a file of results for each step, the GPU's memory, drawn weights.

GPU_PACK names the unpacked pack, GPU_OUT the folder of results; GPU_EMULATED, in a dry run, the emulated CUDA.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edge_router.engines.tvm.device import Device, open_device
from edge_router.engines.tvm.engine import TvmRunner
from edge_router.engines.tvm.runtime import load_runtime

TESTS = Path(__file__).parents[2]
PACK, OUT = Path(os.environ.get("GPU_PACK", ".")), Path(os.environ.get("GPU_OUT", "."))
EMULATED = os.environ.get("GPU_EMULATED")
_NOISE = (1 << 24) + 1  # words, and no multiple of any row, so that rows differ
_SCALE = 0.005


def helper(path: str) -> ModuleType:
    """A file of the tests', such as compile/gpu/emulator.py."""
    name = Path(path).stem
    spec = importlib.util.spec_from_file_location(name, TESTS / path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start() -> Device:
    """The GPU, or what stands in for it."""
    if EMULATED:
        helper("compile/gpu/emulator.py").compile_by(Path(EMULATED))
    return open_device("cuda")


def manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PACK / "manifest.json").read_text(encoding="utf-8"))
    return found


def folder(name: str) -> Path:
    return PACK / "models" / name


def chat(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder(name) / "mlc-chat-config.json").read_text(encoding="utf-8"))
    return found


class Results:
    """The file of one step, written anew with all that is known after each finding."""

    def __init__(self, step: str) -> None:
        self._file = OUT / f"{step}.json"

    def check(self, name: str, good: bool, **facts: object) -> None:
        values = self._read()
        values["checks"].append({"name": name, "good": bool(good), **facts})
        self._write(values)
        print(f"{'good' if good else 'BAD '} {name} {facts or ''}", flush=True)  # noqa: T201

    def figures(self, name: str, **values: object) -> None:
        found = self._read()
        found["figures"].setdefault(name, {}).update(values)
        self._write(found)
        print(f"     {name} {values}", flush=True)  # noqa: T201

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Whatever is raised is a bad check, and what comes after goes on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            told = f"{type(error).__name__}: {error}"[:2000]
            self.check(name, False, error=told, where=traceback.format_exc()[-1500:])

    def _read(self) -> dict[str, Any]:
        """With what a process of the step's has found meanwhile."""
        empty: dict[str, Any] = {"checks": [], "figures": {}}
        return json.loads(self._file.read_text(encoding="utf-8")) if self._file.is_file() else empty

    def _write(self, values: Mapping[str, Any]) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(values, indent=1), encoding="utf-8")
        new.replace(self._file)


class Memory:
    """The GPU's, through CUDA's run time, in this process."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcudart.so.13")
        self._held: list[ctypes.c_void_p] = []

    def free(self) -> int:
        free, whole = ctypes.c_size_t(), ctypes.c_size_t()
        self._cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(whole))
        return free.value

    def fill(self, leave: int = 0) -> int:
        """Take all but about `leave` bytes; what is free then."""
        for step in (1 << 30, 64 << 20, 2 << 20, 64 << 10):
            while self.free() >= leave + step:
                taken = ctypes.c_void_p()
                if self._cuda.cudaMalloc(ctypes.byref(taken), ctypes.c_size_t(step)):
                    self._cuda.cudaGetLastError()  # or the next to ask would be told
                    break
                self._held.append(taken)
        return self.free()

    def release(self) -> None:
        for taken in self._held:
            self._cuda.cudaFree(taken)
        self._held.clear()

    def wait(self) -> None:
        """Until all that was started has ended."""
        if status := self._cuda.cudaDeviceSynchronize():
            raise RuntimeError(f"CUDA error {status}")


class Drawn(TvmRunner):
    """A runner whose weights are drawn on the GPU, as many as the library asks for; its answers are noise."""

    def _load_parameters(self, model_dir: Path, metadata: Any) -> Any:
        ffi: Any = load_runtime()
        try:
            return ffi.convert(self._drawn(ffi, metadata.parameters()))
        except Exception as error:
            from edge_router.engines.local.runner import is_exhausted
            from edge_router.errors import OutOfMemory

            if is_exhausted(error):
                raise OutOfMemory("tvm", "no room for the weights") from error
            raise

    def _drawn(self, ffi: Any, asked: Sequence[Mapping[str, Any]]) -> list[Any]:
        view = ffi.get_global_func("runtime.TVMTensorCreateView")
        copy = ffi.get_global_func("runtime.TVMTensorCopyFromTo")
        size = max(int(np.prod(one["shape"])) * np.dtype(one["dtype"]).itemsize for one in asked)
        words = min(_NOISE, size // 4 + 1)
        noise = np.random.default_rng(0).integers(0, 1 << 32, words, np.uint32)
        sources = {"uint32": self._device.put(noise, self._device.empty((words,), "uint32"))}
        found = []
        for one in asked:
            shape, dtype = tuple(one["shape"]), one["dtype"]
            kind = dtype if dtype == "uint32" else f"{one['name'].rpartition('.')[2]} {dtype}"
            if kind not in sources:
                value = _SCALE if "q_scale" in kind else 1.0
                same = np.full(words, value, dtype)
                sources[kind] = self._device.put(same, self._device.empty((words,), dtype))
            made, count = self._device.empty(shape, dtype), int(np.prod(shape))
            bytes_each = np.dtype(dtype).itemsize
            for first in range(0, count, words):
                part = ffi.Shape((min(words, count - first),))
                copy(
                    view(sources[kind], part, ffi.dtype(dtype), 0),
                    view(made, part, ffi.dtype(dtype), first * bytes_each),
                )
            found.append(made)
        return found


def calls_of(name: str) -> Any:
    """What a packed model is asked, each a method of a runner's and its arguments."""
    if name == "small":
        return helper("gpu/visit/talk.py").talk(512, 128, 2048)
    return helper("compile/gpu/tiny_models.py").conversation()


def answer(runner: Any, calls: Sequence[Any]) -> list[Any]:
    """The logits that each call returns, if it does."""
    found = [getattr(runner, name)(*arguments) for name, arguments in calls]
    return [None if logits is None else np.array(logits) for logits in found]
