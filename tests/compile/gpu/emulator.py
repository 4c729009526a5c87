"""A GPU for tests where there is none: TVM's CUDA source, compiled for this processor and run thread by thread.

What is tested so is all but the GPU itself: our kernels as TVM writes them, barriers included, TVM's runtime
for CUDA, and our engine on top of it. CUDA's two libraries are replaced by emulated.cpp and
emulated_runtime.cpp, `mma.sync` by what the instruction's definition says. Run as a program it executes requests in
a process that found these libraries: `python emulator.py FOLDER`, pickled requests on stdin. `emulator.py build
FOLDER` makes them.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
REAL = Path("a real GPU")  # in place of a folder
ANSWER_S, EMULATED_S = 10.0, 300.0  # for one answer of a GPU, and of what stands in for it
_OPTIONS = ("-std=c++17", "-O1", "-march=native", "-fPIC", "-shared", "-w")
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\([^;{]*\{')


def build(folder: Path) -> None:
    """CUDA's two libraries, emulated, into `folder`."""
    from edge_router.compile.gpu.nvrtc import headers

    folder.mkdir(parents=True, exist_ok=True)
    names = folder / "names.map"
    names.write_text("libcudart.so.13 { global: *; };\n", encoding="utf-8")
    include = [f"-I{path}" for path in headers()]
    for source, library, more in (
        ("emulated.cpp", "libcuda.so.1", []),
        (
            "emulated_runtime.cpp",
            "libcudart.so.13",
            [f"-Wl,--version-script={names}", str(folder / "libcuda.so.1")],
        ),
    ):
        where = ["-o", str(folder / library), f"-Wl,-soname,{library}"]
        command = ["g++", *_OPTIONS, "-O2", *include, *where, *more, str(HERE / source), "-ldl"]
        subprocess.run(command, check=True)


def on_host(folder: Path, source: str) -> bytes:
    """What stands for a module's machine code: the path of a library with the same kernels for this processor."""
    first = re.search(r'^extern "C" __global__', source, re.MULTILINE)
    assert first is not None
    gathered = re.search(r"make_(int|longlong)[24]\(", source[first.start() :])
    assert gathered is None, "numbers are read one by one that lie side by side"
    kernels = source[first.start() :].partition("//edge_router machine code")[0]
    text = f'#include "{HERE / "emulated.h"}"\n{kernels}\nextern "C" {{\n'
    for name in _KERNEL.findall(kernels):
        text += f"void call_{name}(void** arguments) {{ invoke({name}, arguments); }}\n"
        text += f"size_t size_{name}(int i) {{ return size_of({name}, i); }}\n"
    folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
    library = folder / "kernels.so"
    if not library.is_file():
        folder.mkdir(exist_ok=True)
        file, made = folder / "kernels.cpp", folder / f"kernels{os.getpid()}.so"
        file.write_text(text + "}\n", encoding="utf-8")
        command = ["g++", *_OPTIONS, "-o", str(made), str(file), str(folder.parent / "libcuda.so.1")]
        subprocess.run(command, check=True)
        made.replace(library)
    return str(library).encode() + b"\0"


class Emulator:
    """The other process, which is ended where it takes longer than its limit. `environment`: see emulated.cpp."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._limit = ANSWER_S if folder == REAL else EMULATED_S
        paths = {} if folder == REAL else {"LD_LIBRARY_PATH": str(folder)}
        self._command = [sys.executable, str(HERE / "emulator.py"), str(folder)]
        self._environment = {**os.environ, **paths, **environment}
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen(self._command, stdin=pipe, stdout=pipe, env=self._environment)

    def ask(self, what: str, **details: Any) -> Any:
        if self._process.poll() is not None:  # by an error, after which a real GPU takes nothing more
            self.close()
            self._process = self._start()
        assert self._process.stdin is not None and self._process.stdout is not None
        pickle.dump((what, details), self._process.stdin)
        self._process.stdin.flush()
        watch = threading.Timer(self._limit, self._process.kill)
        watch.start()
        try:
            answer = pickle.load(self._process.stdout)
        except EOFError:
            raise RuntimeError(f"no answer to {what}: ended with {self._process.wait()}") from None
        finally:
            watch.cancel()
        if isinstance(answer, Exception):
            self.close()
            raise answer
        return answer

    def run(self, kernel: str, made_of: Sequence[Any], *arguments: np.ndarray | float, **gpu: Any) -> None:
        """Call `Gpu(**gpu).kernel(*made_of)` with numpy arrays, which it may change, and numbers."""
        changed = self.ask("run", kernel=kernel, made_of=tuple(made_of), arguments=arguments, gpu=gpu)
        for mine, theirs in zip(arguments, changed, strict=True):
            if isinstance(mine, np.ndarray):
                mine[...] = theirs

    def close(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(self._limit)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close() if self._process.stdout else None


class Recorder:
    """In place of an emulator: notes which kernels are asked for, a line of `named` each, and runs none."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def run(self, kernel: str, made_of: Sequence[Any], *arguments: np.ndarray | float, **gpu: Any) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(named(kernel, tuple(made_of), gpu) + "\n")

    def close(self) -> None:
        return None


def named(kernel: str, made_of: tuple[Any, ...], gpu: dict[str, Any]) -> str:
    """What a kernel is made of, as Python writes it; the last digits of numbers depend on the processor."""
    short = tuple([float(f"{x:.12g}") for x in part] if isinstance(part, list) else part for part in made_of)
    return repr((kernel, short, gpu))


# ---- in the other process ------------------------------------------------------------------------------------------


def run(kernel: str, made_of: tuple[Any, ...], arguments: tuple[Any, ...], gpu: dict[str, Any]) -> list[Any]:
    from edge_router.engines.tvm.device import open_device

    device = open_device("cuda")
    packed = os.environ.get("GPU_PACK")
    function = _packed(Path(packed), named(kernel, made_of, gpu)) if packed else _made(kernel, made_of, gpu)
    tensors = [
        device.put(np.ascontiguousarray(a), device.empty(a.shape, str(a.dtype)))
        if isinstance(a, np.ndarray)
        else a
        for a in arguments
    ]
    function(*tensors)
    return [t if isinstance(t, int | float) else device.get(t) for t in tensors]


def _made(kernel: str, made_of: tuple[Any, ...], gpu: dict[str, Any]) -> Any:
    import tvm

    from edge_router.compile.gpu.kernels import GpuKernels
    from edge_router.compile.gpu.lowering import register

    target = tvm.target.Target({"kind": "cuda", "arch": "sm_89"}, host="llvm")
    with target:
        made = getattr(GpuKernels(target, "cuda", **gpu), kernel)(*made_of).with_attr("global_symbol", "main")
    with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}):
        return tvm.compile(tvm.IRModule({"main": made}), target, tir_pipeline=register())["main"]


def _packed(pack: Path, name: str) -> Any:
    """Of the library in which tests/gpu/visit/pack.py put all of them."""
    return _library(pack)[json.loads((pack / "kernels.json").read_text(encoding="utf-8"))[name]]


@cache
def _library(pack: Path) -> Any:
    from tvm_ffi import load_module

    from edge_router.engines.tvm.device import loading, open_device

    with loading(open_device("cuda")):
        return load_module(str(pack / "kernels.so"))


def logits(model_dir: Path, library: Path, calls: list[tuple[str, Any]]) -> list[np.ndarray]:
    """What the engine computes: `calls` are methods of the runner, with their arguments."""
    from edge_router.engines.tvm.engine import TvmRunner

    runner = TvmRunner(model_dir, library, max_sequences=2, device="cuda")
    found = [getattr(runner, name)(*arguments) for name, arguments in calls]
    runner.close()
    return [np.array(answer) for answer in found]


def launches(model_dir: Path, library: Path) -> tuple[list[list[int]], np.ndarray]:
    """Of each of four tokens: kernels started one by one, graphs, and kernels within them; and their logits."""
    from edge_router.engines.tvm.engine import TvmRunner

    counted = (ctypes.c_uint64 * 3).in_dll(ctypes.CDLL("libcuda.so.1"), "emulated_counts")
    runner = TvmRunner(model_dir, library, device="cuda")
    runner.add_sequence(0)
    runner.prefill(0, list(range(20)))
    counts, logits = [], []
    for token in range(4):
        before = list(counted)
        logits.append(np.array(runner.decode([0], [token])[0]))
        counts.append([now - was for now, was in zip(counted, before, strict=True)])
    runner.close()
    return counts, np.array(logits)


def compile_by(folder: Path) -> None:
    """From now on CUDA source becomes a library for this processor; on a real GPU what it should."""
    from tvm_ffi import register_global_func

    from edge_router.engines.tvm import device as tvm_device

    device = tvm_device.open_device("cuda")
    if folder != REAL:
        tvm_device.machine_code = lambda architecture, source: on_host(folder, source)
    if os.environ.get("GPU_PACK"):
        return  # nothing is compiled, and TVM's compiler may be missing
    import_module("tvm")  # which registers a compiler of its own
    architecture = tvm_device._architecture(tvm_device.load_runtime(), device)
    compiler = partial(tvm_device.machine_code, architecture)
    register_global_func("tvm_callback_cuda_compile", compiler, override=True)


def main() -> None:
    if sys.argv[1] == "build":
        return build(Path(sys.argv[2]))
    folder = Path(sys.argv[1])
    said, sys.stdout = os.fdopen(os.dup(1), "wb"), sys.stderr
    os.dup2(2, 1)
    compile_by(folder)
    while True:
        try:
            what, details = pickle.load(sys.stdin.buffer)
        except EOFError:
            return None
        try:
            answer = globals()[what](**details)
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        pickle.dump(answer, said)
        said.flush()


if __name__ == "__main__":
    main()
