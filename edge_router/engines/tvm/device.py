"""What engine tvm computes on: this machine's processor, or a GPU that TVM's runtime drives."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.engines.tvm.runtime import load_part, load_runtime
from edge_router.errors import EngineUnavailable
from edge_router.records import dataclass

CPU = "cpu"
GPUS = ("cuda", "metal")
_TYPES = {CPU: 1, "cuda": 2, "metal": 8}  # DLPack's
_EXISTS, _CAPABILITY = 0, 4  # TVM's numbers of what can be asked of a device
_CUDA_RUNTIME = {"posix": "libcudart.so.13", "nt": "cudart64_13.dll"}
_EXTRA = "pip install 'edge-router[cuda]'"
_COMPILE = "tvm_callback_cuda_compile"  # TVM's runtime asks it for the machine code of CUDA source

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Device:
    """`kind` is DLPack's device type, `number` which of several. Made by `open_device`."""

    name: str = CPU
    kind: int = _TYPES[CPU]
    number: int = 0

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A tensor there."""
        ffi: Any = load_runtime()
        make = ffi.get_global_func("runtime.TVMTensorAllocWithScope")
        return make(ffi.Shape(shape), ffi.dtype(dtype), ffi.device(self.name, self.number), None)

    def put(self, array: Array, into: Any) -> Any:
        """The numbers as a tensor there: on a GPU the beginning of `into`, which is at least as large."""
        ffi: Any = load_runtime()
        here = ffi.from_dlpack(array)
        if self.name == CPU:
            return here
        view = ffi.get_global_func("runtime.TVMTensorCreateView")
        part = view(into, ffi.Shape(array.shape), ffi.dtype(str(array.dtype)), 0)
        ffi.get_global_func("runtime.TVMTensorCopyFromTo")(here, part)
        return part

    def get(self, tensor: Any) -> Array:
        """The numbers of a tensor, once they are computed. On a processor they share its memory."""
        if self.name == CPU:
            return np.asarray(np.from_dlpack(tensor))
        found = np.empty(tuple(tensor.shape), str(tensor.dtype))
        copy = load_runtime().get_global_func("runtime.TVMTensorCopyToBytes")
        copy(tensor, ctypes.c_void_p(found.ctypes.data), found.nbytes)
        return found


def open_device(asked: str) -> Device:
    """`asked` is "cpu", or "cuda" or "metal" and perhaps ":" and a number.

    Raises `EngineUnavailable` where there is no such device, or what it takes is not installed.
    """
    name, _, number = asked.partition(":")
    if name not in GPUS:
        return Device()
    ffi: Any = load_runtime()
    if name == "cuda":
        _load_cuda()
    elif load_part(name) is None and ffi.get_global_func(f"device_api.{name}", allow_missing=True) is None:
        raise EngineUnavailable("tvm", f"the installed apache-tvm has no runtime for {name}")
    device = Device(name, _TYPES[name], int(number) if number.isdigit() else 0)
    ask = ffi.get_global_func("runtime.GetDeviceAttr")
    if not ask(device.kind, device.number, _EXISTS):
        raise EngineUnavailable("tvm", f"no {name.upper()} GPU number {device.number} is usable here")
    return device


def has_cuda() -> bool:
    """Whether the libraries are here that TVM's runtime for CUDA takes; for a GPU it is not looked."""
    return _loads(_DRIVERS) and _loads(_cuda_runtimes())


def _load_cuda() -> None:
    """TVM's runtime for CUDA, which needs the driver's library and CUDA's own."""
    if not _loads(_DRIVERS):
        raise EngineUnavailable("tvm", "no NVIDIA driver is installed")
    if not _loads(_cuda_runtimes()):
        raise EngineUnavailable("tvm", f"CUDA's run time (version 13) is not installed: {_EXTRA}")
    try:
        found = load_part("cuda")
    except (OSError, RuntimeError) as error:
        raise EngineUnavailable("tvm", f"TVM's runtime for CUDA could not be loaded: {error}") from error
    if found is None:
        raise EngineUnavailable("tvm", "the installed apache-tvm has no runtime for cuda")


_DRIVERS = ("libcuda.so.1", "nvcuda.dll")


def _cuda_runtimes() -> tuple[str, ...]:
    """The system's, else that of the package nvidia-cuda-runtime."""
    spec = importlib.util.find_spec("nvidia")
    folders = (
        [] if spec is None else [Path(place) / "cu13" for place in spec.submodule_search_locations or ()]
    )
    names = tuple(_CUDA_RUNTIME.values())
    found = [path for folder in folders for name in names for path in folder.glob(f"**/{name}")]
    return (*names, *(str(path) for path in found))


def _loads(names: tuple[str, ...]) -> bool:
    """For all libraries that are loaded afterwards, too."""
    for name in names:
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return True
    return False


@contextmanager
def loading(device: Device) -> Iterator[None]:
    """Libraries that are loaded meanwhile get their machine code from themselves, or from NVIDIA's compiler.

    Only meanwhile, for whoever imports tvm afterwards registers a function of the same name.
    """
    if device.name != "cuda":
        yield
        return
    ffi: Any = load_runtime()
    before = ffi.get_global_func(_COMPILE, allow_missing=True)
    ffi.register_global_func(_COMPILE, partial(machine_code, _architecture(ffi, device)), override=True)
    try:
        yield
    finally:
        ffi.registry.remove_global_func(_COMPILE)
        if before is not None:
            ffi.register_global_func(_COMPILE, before)


def _architecture(ffi: Any, device: Device) -> str:
    capability = ffi.get_global_func("runtime.GetDeviceAttr")(device.kind, device.number, _CAPABILITY)
    return f"sm_{str(capability).replace('.', '')}"


def machine_code(architecture: str, source: str) -> bytes:
    """Raises `EngineUnavailable` where a library holds none for it and nothing here makes it."""
    from edge_router.compile.gpu import machine_code as carried
    from edge_router.compile.gpu import nvrtc

    found = carried.machine_code(source, architecture)
    if found is not None:
        return found
    if not nvrtc.available():
        raise EngineUnavailable("tvm", f"the library holds no machine code for {architecture}: {_EXTRA}")
    return nvrtc.to_cubin(source, architecture)
