"""A GPU for tests where there is none: TVM's CUDA source, compiled for this processor and run thread by thread.

What is tested so is all but the GPU itself: our kernels as TVM writes them, barriers included, TVM's runtime
for CUDA, and our engine on top of it. CUDA's two libraries are replaced by emulated.cpp and
emulated_runtime.cpp, `mma.sync` by what the instruction's definition says. Run as a program it executes requests in
a process that found these libraries: `python emulator.py FOLDER`, pickled requests on stdin.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
REAL = Path("a real GPU")  # in place of a folder
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
        ("emulated_runtime.cpp", "libcudart.so.13", [f"-Wl,--version-script={names}"]),
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
    number = len(list(folder.glob("kernels*.cpp")))
    file, library = folder / f"kernels{number}.cpp", folder / f"kernels{number}.so"
    file.write_text(text + "}\n", encoding="utf-8")
    command = ["g++", *_OPTIONS, "-o", str(library), str(file), str(folder / "libcuda.so.1")]
    subprocess.run(command, check=True)
    return str(library).encode() + b"\0"


class Emulator:
    """The other process. `environment`: see emulated.cpp."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "emulator.py"), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "LD_LIBRARY_PATH": str(folder), **environment},
        )  # fmt: skip

    def ask(self, what: str, **details: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        pickle.dump((what, details), self._process.stdin)
        self._process.stdin.flush()
        answer = pickle.load(self._process.stdout)
        if isinstance(answer, Exception):
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
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close() if self._process.stdout else None


# ---- in the other process ------------------------------------------------------------------------------------------


def run(kernel: str, made_of: tuple[Any, ...], arguments: tuple[Any, ...], gpu: dict[str, Any]) -> list[Any]:
    import tvm

    from edge_router.compile.gpu.kernels import Gpu
    from edge_router.compile.gpu.lowering import register

    target = tvm.target.Target({"kind": "cuda", "arch": "sm_89"}, host="llvm")
    with target:
        made = getattr(Gpu(target, "cuda", **gpu), kernel)(*made_of).with_attr("global_symbol", "main")
    with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}):
        function = tvm.compile(tvm.IRModule({"main": made}), target, tir_pipeline=register())["main"]
    device = tvm.cuda(0)
    tensors = [tvm.runtime.tensor(a, device) if isinstance(a, np.ndarray) else a for a in arguments]
    function(*tensors)
    return [t if isinstance(t, int | float) else t.numpy() for t in tensors]


def logits(model_dir: Path, library: Path, calls: list[tuple[str, Any]]) -> list[np.ndarray]:
    """What the engine computes: `calls` are methods of the runner, with their arguments."""
    from edge_router.engines.tvm import TvmRunner

    runner = TvmRunner(model_dir, library, max_sequences=2, device="cuda")
    found = [getattr(runner, name)(*arguments) for name, arguments in calls]
    runner.close()
    return [np.array(answer) for answer in found]


def _compile_by(folder: Path) -> None:
    """From now on CUDA source becomes a library for this processor; on a real GPU what it should."""
    from tvm_ffi import register_global_func

    from edge_router.engines import tvm_device

    device = tvm_device.open_device("cuda")
    import_module("tvm")  # which registers a compiler of its own
    if folder == REAL:
        architecture = tvm_device._architecture(tvm_device.load_runtime(), device)
        compiler = partial(tvm_device.machine_code, architecture)
    else:
        compiler = partial(on_host, folder)
        tvm_device.machine_code = lambda architecture, source: on_host(folder, source)
    register_global_func("tvm_callback_cuda_compile", compiler, override=True)


def main() -> None:
    folder = Path(sys.argv[1])
    said, sys.stdout = os.fdopen(os.dup(1), "wb"), sys.stderr
    os.dup2(2, 1)
    _compile_by(folder)
    while True:
        try:
            what, details = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = globals()[what](**details)
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        pickle.dump(answer, said)
        said.flush()


if __name__ == "__main__":
    main()
