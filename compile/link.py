"""From compiled code to a file that can be loaded, without needing a C compiler.

Two kinds, told by the file's suffix:

`.tar`  the object files as LLVM wrote them. tvm_ffi's own loader (the package apache-tvm-ffi-orcjit, 15 MB,
        for every platform that apache-tvm is made for) places them in memory in about 10 ms.
`.so`   (`.dylib`, `.dll`) a shared library, as MLC's engine wants it, for which something must link: a C
        compiler (cc, gcc, clang; clang-cl's on Windows) or the package ziglang, which brings one.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge_router.errors import (
    ArtifactCorrupt,
    BuildFailed,
    EdgeRouterError,
    EngineUnavailable,
    LinkerMissing,
    is_mistake,
)

OBJECTS = ".tar"
_LOADER = "tvm_ffi_orcjit"
_COMPILERS = ("cc", "gcc", "clang") if sys.platform != "win32" else ("clang",)
_CPU, _POOLED = 1, 2  # DLPack's device type, the virtual machine's kind of allocator


def library_name(*, shared: bool = False) -> str:
    """Of a library for this machine: objects where they can be loaded and are not to be `shared`."""
    if not shared and find_spec(_LOADER) is not None:
        return f"model{OBJECTS}"
    return f"model{shared_suffix()}"


def shared_suffix() -> str:
    return {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")


# ---- writing -----------------------------------------------------------------------------------------------


def link(executable: Any, output: Path) -> None:
    """Write what `relax.build` returned. Raises `BuildFailed`, `LinkerMissing` where nothing can link."""
    command = linker(output, output.stem)
    if command is None:
        executable.export_library(str(output), fcompile=_packer())
    else:
        executable.export_library(str(output), fcompile=_linker(command))


def linker(output: Path, model: str) -> list[str] | None:
    """The command that links `output`; None where its suffix asks for none. Raises `LinkerMissing`."""
    if output.suffix == OBJECTS:
        return None
    command = compiler()
    if command is None:
        raise LinkerMissing(model, (*_named(), "ziglang"))
    return command


def compiler() -> list[str] | None:
    """The command of a C compiler, if there is one."""
    for name in _named():
        found = shutil.which(name)
        if found:
            return [found]
    return [sys.executable, "-m", "ziglang", "cc"] if find_spec("ziglang") is not None else None


def _named() -> tuple[str, ...]:
    """The one that CC names is the only one then, as for other programs that compile."""
    named = os.environ.get("CC")
    return (named,) if named else _COMPILERS


def _packer() -> Callable[..., None]:
    def pack(file_name: str, files: Sequence[str], **_options: object) -> None:
        with tarfile.open(file_name, "w") as archive:
            for file in map(Path, files):
                content = file.read_bytes()
                entry = tarfile.TarInfo(file.name)  # without times and owners: equal code, equal file
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))

    return _of_objects(pack)


def _linker(command: Sequence[str]) -> Callable[..., None]:
    def run(file_name: str, files: Sequence[str], **_options: object) -> None:
        mode = ["-dynamiclib", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
        position = [] if sys.platform == "win32" else ["-fPIC"]
        arguments = [*command, *mode, *position, "-o", file_name, *files]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode or not Path(file_name).is_file():
            said = done.stderr.strip() or done.stdout.strip()
            raise BuildFailed(Path(file_name).stem, "link", f"{' '.join(command)}: {said}")

    return _of_objects(run)


def _of_objects(function: Callable[..., None]) -> Callable[..., None]:
    """Tells TVM in which format to hand over the parts."""
    function.object_format = "o"  # type: ignore[attr-defined]
    return function


# ---- loading -----------------------------------------------------------------------------------------------


def load_library(path: Path, kind: int = _CPU, number: int = 0) -> Any:
    """TVM's virtual machine of a library, on this machine's processor or a GPU.

    `kind` is DLPack's device type, `number` which of several devices. TVM's runtime libraries must be loaded
    already. Raises `ArtifactCorrupt`, `EngineUnavailable`.
    """
    try:
        module = _objects(path) if path.suffix == OBJECTS else _shared(path)
        machine = _function(module, "vm_load_executable", path)()
        near = () if kind == _CPU else (_CPU, 0, _POOLED)  # what is computed on the host
        machine["vm_initialization"](kind, number, _POOLED, *near)
    except EdgeRouterError:
        raise
    except Exception as error:
        if is_mistake(error):
            raise
        raise ArtifactCorrupt(path, f"cannot be loaded by this TVM: {error}") from error
    return machine


def _function(module: Any, name: str, path: Path) -> Any:
    try:
        return module[name]
    except AttributeError as error:  # tvm_ffi's way to say so
        raise ArtifactCorrupt(path, f"has no function {name}") from error


def _shared(path: Path) -> Any:
    from tvm_ffi import load_module

    return load_module(str(path.absolute()))


def _objects(path: Path) -> Any:
    if find_spec(_LOADER) is None:
        raise EngineUnavailable("tvm", "the package apache-tvm-ffi-orcjit, which loads it, is not installed")
    from tvm_ffi_orcjit import default_session

    with tarfile.open(path) as archive:
        files = [archive.extractfile(entry) for entry in archive]
        parts = [file.read() for file in files if file is not None]
    # It would ask the C++ compiler for its runtime library, which nothing here uses.
    return default_session().load_module(parts, cxx="/no-compiler")
