"""TVM's runtime library alone: found without importing tvm, whose compiler takes 259 MB and seconds."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from edge_router.device.process import can_reserve
from edge_router.errors import EngineUnavailable, OutOfMemory

# Exported, but only as C++. A thread that calls kernels has threads of its own, which outlive it.
_SET_CONCURRENCY = "_ZN3tvm7runtime9threading17SetMaxConcurrencyEi"
_RESET_THREADS = "_ZN3tvm7runtime9threading15ResetThreadPoolEv"  # ends them, and makes as many as may be now
# What TVM reads when it makes threads. Left to itself it binds a new thread N to core N, so that those of
# all engines and processes would crowd on the first cores; and a thread without work looks 300,000 times
# for some before it sleeps, a tenth of a second of a core after each answer. Measured with the demo model,
# two threads, 149 tokens, medians of rounds in turns: two cores of its own (five rounds) 522 tokens/s with
# 300,000, 505 with 10,000, 509 with 1,000, 461 with 100, 184 with none, which took 2.5 times the
# processor's time; four other threads for each core (eight rounds) 42, 32, 45, 46, 67, all but the last
# within the noise.
_SETTINGS = {"TVM_BIND_THREADS": "0", "TVM_THREAD_POOL_SPIN_COUNT": "1000"}
_Task = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_NOTHING = _Task(lambda task, environment, data: 0)
_LOADING = threading.Lock()
_POOL = threading.local()  # `made`: this thread has run kernels on threads of its own
_STACK = 16 << 20  # bytes of address space for a thread, generously: systems give 8 MiB or less


def load_runtime() -> ModuleType:
    """tvm_ffi, with TVM's runtime behind it. Takes 0.2 s, once. Raises `EngineUnavailable`."""
    with _LOADING:
        try:
            tvm_ffi = _import_tvm_ffi()
            _library()
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineUnavailable("tvm", f"its runtime could not be loaded: {error}") from error
    return tvm_ffi


def use_threads(count: int) -> None:
    """Kernels that are called from this thread run on `count` threads, until `end_threads`.

    Raises `OutOfMemory` where there is no room for their stacks: TVM would end the process.
    """
    if not can_reserve(count * _STACK):
        raise OutOfMemory("tvm", f"no room for {count} threads", count * _STACK)
    library = _library()
    try:
        library[_SET_CONCURRENCY](ctypes.c_int(count))
    except AttributeError:  # Windows writes C++ names otherwise. This holds for the whole process:
        os.environ["TVM_NUM_THREADS"] = str(count)
    with _settings():
        # A thread without a pool gets one of this size with its first kernel. To ask for a new one would make
        # it twice and wait for the first one's threads, which look for work a thousand times before they end
        # and yield each time: 10 s where twelve others wanted two cores, minutes for a process that is nice.
        if getattr(_POOL, "made", False) or threading.current_thread() is threading.main_thread():
            _reset_threads(library)
        _POOL.made = True
        library.TVMBackendParallelLaunch(_NOTHING, None, 0)


def end_threads() -> None:
    """Give back what `use_threads` made; another one comes before the next kernel from this thread."""
    library = _library()
    try:
        library[_SET_CONCURRENCY](ctypes.c_int(1))  # one is this thread itself
    except AttributeError:
        return
    with _settings():
        _reset_threads(library)


def _reset_threads(library: ctypes.CDLL) -> None:
    with suppress(AttributeError):  # as above
        library[_RESET_THREADS]()


@contextmanager
def _settings() -> Iterator[None]:
    """Ours in the environment, where it has none; threads that are made meanwhile keep to them."""
    own = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


def load_part(name: str) -> ctypes.CDLL | None:
    """The runtime's part for a kind of GPU, None where TVM has none. Raises `OSError`, `RuntimeError`."""
    load_runtime()
    part = f"tvm_runtime_{name}"
    with _LOADING:
        return _load(part) if any(_folder().glob(f"*{part}.*")) else None


@cache
def _library() -> ctypes.CDLL:
    return _load("tvm_runtime")


def _load(name: str) -> ctypes.CDLL:
    from tvm_ffi.libinfo import load_lib_ctypes

    # As tvm itself does it, so that both share one library whichever comes first.
    library: ctypes.CDLL = load_lib_ctypes("apache-tvm", name, "RTLD_GLOBAL", extra_lib_paths=[_folder()])
    return library


def _folder() -> Path:
    spec = find_spec("tvm")
    if spec is None or spec.origin is None:
        raise ImportError("the package apache-tvm is not installed")
    return Path(spec.origin).parent / "lib"


def _import_tvm_ffi() -> ModuleType:
    # It imports torch where that is installed, a second and 150 MB, for tensors that nobody hands it here.
    with _hidden("torch"):
        return import_module("tvm_ffi")


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """This thread can't import `package` for now, unless it is imported already."""
    hider = _Hider(package, threading.get_ident())
    sys.meta_path.insert(0, hider)
    try:
        yield
    finally:
        sys.meta_path.remove(hider)


class _Hider:
    """The first of the finders that `import` asks."""

    def __init__(self, package: str, thread: int) -> None:
        self._package, self._thread = package, thread

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == self._package and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)
        return None
