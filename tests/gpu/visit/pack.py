"""Here: all that a visit takes, in one file beside the checkout: `pack.py FOLDER [--reduced] [sm_90 ...]`.

TVM's runtime without its compiler, for Python 3.12; kernels and models as shared libraries with machine code for
each architecture; tiny models and what the processor computes with them. Large weights are drawn there. Reduced:
this Python's runtime, few kernels and the tiniest models, for a dry run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PART = "part-1.tar.xz"
LIMIT = 30 << 20  # bytes of the part
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90")
GIB = 1 << 30
_OUTER = ("model_type", "active_vocab_size", "sliding_window_size", "attention_sink_size")

# What of each package travels, as patterns of file names.
RUNTIME: Mapping[str, tuple[str, ...]] = {
    "apache-tvm": ("tvm/lib/libtvm_runtime*", "*.dist-info/METADATA", "*.dist-info/RECORD"),
    "apache-tvm-ffi": (
        "tvm_ffi/*.py", "tvm_ffi/core.*.so", "tvm_ffi/lib/*.so", "*.dist-info/METADATA", "*.dist-info/RECORD",
    ),
    "nvidia-cuda-runtime": ("nvidia/cu13/lib/libcudart.so.13",),
    "platformdirs": ("platformdirs/*.py",),
    "wgpu": ("wgpu/*.py", "wgpu/*.so", "wgpu/resources/*", "*.dist-info/METADATA"),
    "cffi": ("cffi/*.py", "_cffi_backend.*.so"),
    "pycparser": ("pycparser/*.py",),
    "rendercanvas": ("rendercanvas/*.py",),
}  # fmt: skip
PLATFORMS = (
    "manylinux_2_28",
    "manylinux_2_27",
    "manylinux_2_24",
    "manylinux_2_17",
    "manylinux2014",
    "manylinux1",
)


@dataclass(frozen=True, slots=True)
class Contents:
    """`kernels`: which of their tests, as pytest's -k takes it. `shapes`: cards whose weights are drawn."""

    kernels: str
    tiny: tuple[str, ...]
    shapes: tuple[str, ...]
    small: bool
    rest: Mapping[str, Any]  # of the manifest


FULL = Contents(
    kernels="test",
    tiny=("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3"),
    shapes=("Llama-3.2-1B-Instruct", "Qwen3-4B", "Llama-3.1-8B-Instruct"),
    small=True,
    rest={
        "speed": ["Llama-3.1-8B-Instruct", "Llama-3.2-1B-Instruct", "Qwen3-4B"],
        "prefill": [512, 2048],
        "copied_bytes": 2 * GIB,
        "served": "small",
        "vulkan": ["llama", "small"],
        "memory": {
            "model": "Llama-3.1-8B-Instruct",
            "left": [12 * GIB, 8 * GIB, 6 * GIB],
            "contexts": [2048, 8192, 32768],
            "chunk": 2048,
        },
    },
)
REDUCED = Contents(
    kernels="test_merge or test_rms_norm or test_gate_and_up or test_softmax or test_append",
    tiny=("llama",),
    shapes=(),
    small=False,
    rest={
        "speed": ["llama"],
        "prefill": [16, 32],
        "copied_bytes": 1 << 20,
        "served": "llama",
        "vulkan": ["llama"],
        "memory": {"model": "llama", "left": [GIB], "contexts": [128], "chunk": 32},
    },
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("architectures", nargs="*", default=ARCHITECTURES)
    parser.add_argument("--reduced", action="store_true")
    given = parser.parse_intermixed_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        pack = Path(name) / "pack"
        pack.mkdir()
        make(pack, REDUCED if given.reduced else FULL, sorted(given.architectures), reduced=given.reduced)
        check(pack, given.architectures)
        part = given.folder / PART
        with tarfile.open(part, "w:xz") as archive:
            archive.add(pack, "pack")
        whole = sum(size for _, size in sizes(pack))
    carried = part.stat().st_size
    print(f"{part}: {carried / 2**20:.1f} MiB, {whole / 2**20:.1f} MiB unpacked")  # noqa: T201
    if carried > LIMIT:
        raise SystemExit(f"more than {LIMIT >> 20} MiB")


def make(pack: Path, contents: Contents, architectures: Sequence[str], *, reduced: bool) -> None:
    site(pack / "site", installed=reduced)
    if not reduced:
        vulkan_loader(pack / "vulkan")
    names = recorded(contents.kernels)
    weights = models(pack / "models", contents)
    with ProcessPoolExecutor(max_workers=2) as pool:
        waiting = [pool.submit(kernels, pack, names, tuple(architectures))]
        for folder in sorted((pack / "models").iterdir()):
            for graphs in (False, True):
                waiting.append(pool.submit(library, folder, tuple(architectures), graphs))
            if folder.name in contents.rest["vulkan"]:
                waiting.append(pool.submit(program, folder))
            if folder.name in weights:
                waiting.append(pool.submit(wanted, folder))
        for one in waiting:
            one.result()
    for shard in (pack / "models/small").glob("params_shard_*"):
        shard.unlink()  # it is made there, quicker than carried
    from run import sources

    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    described = {
        "commit": commit.stdout.strip(),
        "sources": sources(),
        "architectures": list(architectures),
        "kernels": contents.kernels,
        "logits": [*weights],
        "weights": weights,
        **contents.rest,
    }
    (pack / "manifest.json").write_text(json.dumps(described, indent=1), encoding="utf-8")


def check(pack: Path, architectures: Sequence[str]) -> None:
    """That everything is there, machine code for each architecture in each library, and nothing that is not meant.

    Raises `SystemExit`.
    """
    from edge_router.compile.gpu.machine_code import device_code

    held = {str(path) for path, _ in sizes(pack)}
    for name, patterns in RUNTIME.items():
        for pattern in patterns:
            if not any(fnmatch(path, f"site/{pattern}") for path in held):
                raise SystemExit(f"nothing of {name} is like {pattern}")
    libraries = [path for path in held if path.startswith(("models/", "kernels")) and path.endswith(".so")]
    for path in libraries:
        found = {code.architecture for code in device_code(pack / path) if code.kind == "cubin"}
        if found != set(architectures):
            raise SystemExit(f"{path} holds machine code for {sorted(map(str, found))}")
    forbidden = [
        path
        for path in held
        if "tvm_compiler" in path or "libnvrtc" in path or path.endswith(".a") or "/include/" in path
    ]
    if forbidden or not libraries:
        raise SystemExit(f"what should not travel: {forbidden}")


def sizes(pack: Path) -> Iterator[tuple[Path, int]]:
    for path in sorted(pack.rglob("*")):
        if path.is_file():
            yield path.relative_to(pack), path.stat().st_size


# ---- the runtime -------------------------------------------------------------------------------------------


def site(folder: Path, *, installed: bool) -> None:
    """A folder for PYTHONPATH: this Python's files, or those of the wheels for Python 3.12."""
    for name, patterns in RUNTIME.items():
        for path, content in _installed(name) if installed else _wheel(name):
            if any(fnmatch(path, pattern) for pattern in patterns):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    (folder / "tvm" / "__init__.py").write_text('"""TVM\'s runtime alone."""\n', encoding="utf-8")


def _installed(name: str) -> Iterator[tuple[str, bytes]]:
    for file in distribution(name).files or ():
        path = Path(str(file.locate()))
        if path.is_file() and not file.is_absolute() and ".." not in file.parts:
            yield file.as_posix(), path.read_bytes()


def _wheel(name: str) -> Iterator[tuple[str, bytes]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = (line for line in project["dependencies"] if line.startswith(f"{name}=="))
    wanted = next(pinned, f"{name}=={version(name)}")
    platforms = [word for platform in PLATFORMS for word in ("--platform", f"{platform}_x86_64")]
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version", "3.12", "--implementation", "cp", *platforms, "-d", place, wanted]
        subprocess.run(command, check=True)
        (wheel,) = Path(place).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield entry.filename, archive.read(entry)


def vulkan_loader(folder: Path) -> None:
    """Debian's, for a machine that has NVIDIA's Vulkan and no loader; without Debian there is none."""
    folder.mkdir()
    command = "apt-get -qq download libvulkan1 && dpkg -x libvulkan1*.deb . && rm libvulkan1*.deb"
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"no loader for Vulkan: {done.stderr[-300:]}")  # noqa: T201


# ---- kernels -----------------------------------------------------------------------------------------------


def recorded(expression: str) -> list[str]:
    """What the kernels are made of that their tests ask for; the tests' asserts are left out meanwhile."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "kernels.txt"
        from kernels import options

        command = [sys.executable, "-O", "-m", "pytest", "--assert=plain", *options(expression)]
        environment = {**os.environ, "GPU_RECORDED": str(file), "GPU_REQUIRED": "1", "PYTEST_ADDOPTS": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if not file.is_file():
            raise SystemExit(f"no kernel was asked for: {done.stdout[-2000:]}")
        return sorted(set(file.read_text(encoding="utf-8").splitlines()))


def kernels(pack: Path, names: Sequence[str], architectures: tuple[str, ...]) -> None:
    """All of them in one library, and which is which."""
    import tvm

    from edge_router.compile.gpu.build import building
    from edge_router.compile.gpu.kernels import GpuKernels
    from edge_router.compile.gpu.lowering import register
    from edge_router.compile.kernels.shapes import Heads, Linear
    from edge_router.compile.kernels.stored import Stored
    from edge_router.compile.link import link
    from edge_router.compile.targets import tvm_target

    spec = _spec(architectures)
    target, functions = tvm_target(spec), {}
    with target:
        for number, name in enumerate(names):
            # only what the tests' own Recorder wrote a moment ago
            kernel, made_of, gpu = eval(name, {"Heads": Heads, "Linear": Linear, "Stored": Stored})
            made = getattr(GpuKernels(target, "cuda", **gpu), kernel)(*made_of)
            functions[f"kernel{number}"] = made.with_attr("global_symbol", f"kernel{number}")
    with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}), building(spec):
        built = tvm.compile(tvm.IRModule(functions), target, tir_pipeline=register())
    link(built, pack / "kernels.so")
    index = {name: f"kernel{number}" for number, name in enumerate(names)}
    (pack / "kernels.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def _spec(architectures: Sequence[str], *, graphs: bool = False) -> Any:
    """For the oldest of them, whose source all others take; the processor may be any of x86-64."""
    from edge_router.compile.targets import TargetSpec

    first, *others = sorted(architectures)
    return TargetSpec("cuda", "x86_64-unknown-linux-gnu", "x86-64-v2", (), first, tuple(others), graphs)


# ---- models ------------------------------------------------------------------------------------------------


def models(folder: Path, contents: Contents) -> dict[str, str]:
    """A directory of each; the hashes of those with weights."""
    from common import helper
    from logits import weights_hash
    from small import make_small

    from edge_router.bench.random_weights import write_tokenizer
    from edge_router.catalog import find_model
    from edge_router.compile.weights.package import PackageWindows, chat_config

    tiny_models, tiny = helper("compile/gpu/tiny_models.py"), helper("compile/tiny_llama.py")
    folder.mkdir()
    for name in contents.tiny:
        with tempfile.TemporaryDirectory() as place:
            shutil.copytree(tiny_models.make(Path(place), name, tiny), folder / name)
    if contents.small:
        make_small(folder / "small")
    weights = {place.name: weights_hash(place) for place in sorted(folder.iterdir())}
    for name in contents.shapes:
        card, place = find_model(name), folder / name
        place.mkdir()
        write_tokenizer(place)
        files = {path.name: path.read_bytes() for path in place.iterdir()}
        described = chat_config(card.config, "q4f16_1", files, {}, PackageWindows(32768, 2048, 4))
        described["active_vocab_size"] = card.config["vocab_size"]
        (place / "mlc-chat-config.json").write_text(json.dumps(described), encoding="utf-8")
    return weights


def library(folder: Path, architectures: tuple[str, ...], graphs: bool) -> None:
    from edge_router.compile.library import compile_library
    from edge_router.vram.library import write_usage

    output = folder / ("graphs.so" if graphs else "cuda.so")
    said = compile_library(_config(folder), "q4f16_1", _spec(architectures, graphs=graphs), output)
    write_usage(output, said["memory_usage"])  # type: ignore[arg-type]


def program(folder: Path) -> None:
    """For the engine webgpu."""
    from edge_router.compile.webgpu.build import write

    config = _config(folder)
    write({**config["model_config"], **{name: config[name] for name in _OUTER}}, "q4f16_1", folder)


def wanted(folder: Path) -> None:
    """What the processor computes."""
    from common import answer, calls_of

    from edge_router.compile.library import compile_library
    from edge_router.compile.targets import host_target
    from edge_router.device import host
    from edge_router.engines.tvm.engine import TvmRunner

    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "model.so"
        compile_library(_config(folder), "q4f16_1", host_target(host()), output)
        runner = TvmRunner(folder, output, max_sequences=4)
        answers = enumerate(answer(runner, calls_of(folder.name)))
        found = {str(number): logits for number, logits in answers if logits is not None}
        runner.close()
    np.savez_compressed(folder / "wanted.npz", **found)


def _config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "mlc-chat-config.json").read_text(encoding="utf-8"))
    return {**found, "active_vocab_size": found["vocab_size"]}


if __name__ == "__main__":
    main()
