"""CUDA source to machine code by NVIDIA's runtime compiler, which needs neither a GPU nor a driver.

It is the library NVRTC from the PyPI package nvidia-cuda-nvrtc, with the headers of nvidia-cuda-runtime and
nvidia-cuda-cccl: 65 MB, of which nothing else of CUDA is needed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from edge_router.errors import BuildFailed

_LIBRARIES = ("lib/libnvrtc.so.13", "bin/x86_64/nvrtc64_130_0.dll", "bin/nvrtc64_130_0.dll")
_HEADERS = ("include", "include/cccl")
_NEEDED = ("include/cuda_fp16.h", "include/cccl/cuda/std/cstdint")
_OPTIONS = (
    "-default-device",
    "--std=c++17",
    "--use_fast_math",
    "-U__CUDA_NO_HALF_OPERATORS__",
    "-U__CUDA_NO_HALF_CONVERSIONS__",
)
_NAME = b"edge_router.cu"


def available() -> bool:
    """Whether the packages are installed; nothing is loaded."""
    root = _root()
    return root is not None and _library(root) is not None and bool(headers())


def headers() -> tuple[Path, ...]:
    """The folders of CUDA's headers; none where they are not installed."""
    root = _root()
    if root is None or not all((root / name).is_file() for name in _NEEDED):
        return ()
    return tuple(root / name for name in _HEADERS)


def to_cubin(source: str, architecture: str) -> bytes:
    """`architecture` such as "sm_89". Raises `BuildFailed` with what the compiler says."""
    root = _root()
    assert root is not None, "ask available() first"
    nvrtc = _load(root)
    program = ctypes.c_void_p()
    options = [f"--gpu-architecture={architecture}", *_OPTIONS, *(f"-I{path}" for path in headers())]
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), _NAME, 0, None, None), "create")
    try:
        if nvrtc.nvrtcCompileProgram(program, len(options), _texts(options)):
            raise BuildFailed("CUDA", architecture, _log(nvrtc, program))
        size = ctypes.c_size_t()
        _check(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)), "size")
        code = ctypes.create_string_buffer(size.value)
        _check(nvrtc.nvrtcGetCUBIN(program, code), "code")
        return code.raw
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _root() -> Path | None:
    """Where the packages have put their files, all of them into one folder."""
    spec = find_spec("nvidia")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    found = (Path(place) / "cu13" for place in places)
    return next((root for root in found if root.is_dir()), None)


def _library(root: Path) -> Path | None:
    return next((root / name for name in _LIBRARIES if (root / name).is_file()), None)


@cache
def _load(root: Path) -> ctypes.CDLL:
    path = _library(root)
    assert path is not None
    return ctypes.CDLL(str(path))


def _texts(options: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(options))(*(option.encode() for option in options))


def _log(nvrtc: ctypes.CDLL, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(max(1, size.value))
    nvrtc.nvrtcGetProgramLog(program, text)
    return text.value.decode(errors="replace").strip()


def _check(result: int, what: str) -> None:
    if result:
        raise BuildFailed("CUDA", what, f"NVRTC returned {result}")
