"""Every input changes the key, nothing else does, and the reason can be said in a line."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_router.catalog import find_model
from edge_router.compile import fingerprint
from edge_router.compile.fingerprint import key, library_inputs, source_hash, weights_inputs, why
from edge_router.compile.recipe import BuildSettings, Recipe, recipe
from edge_router.store import changed_inputs

COMPILE = Path(fingerprint.__file__).parent
SOURCE = {"wheel": "a" * 64, "member": "m.gguf"}
TARGET = {"kind": "llvm", "cpu": "znver4", "features": ["avx2", "fma"]}
CONFIG = {"hidden_size": 576, "context_window_size": 4096, "prefill_chunk_size": 512, "max_batch_size": 1}


@pytest.fixture
def wanted() -> Recipe:
    return recipe(find_model("SmolLM2-135M-Instruct"), BuildSettings())


def of_card(**changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda wanted: replace(wanted, card=replace(wanted.card, **changes))


@pytest.mark.parametrize(
    "change",
    [
        of_card(name="Other"),
        of_card(config={"hidden_size": 1}),
        of_card(context_window_size=100),
        of_card(prefill_chunk_size=100),
        lambda wanted: replace(wanted, quantization="q0f16"),
        lambda wanted: replace(wanted, quantizer="round"),
    ],
)
def test_the_weights_depend_on(change: Callable[[Recipe], Recipe], wanted: Recipe) -> None:
    before = weights_inputs(wanted, SOURCE, "moments")
    assert key(before) != key(weights_inputs(change(wanted), SOURCE, "moments"))


def test_the_weights_depend_on_their_source_and_moments(wanted: Recipe) -> None:
    keys = {
        key(weights_inputs(wanted, source, moments))
        for source in (SOURCE, {**SOURCE, "wheel": "b" * 64}, {"content": "c"})
        for moments in ("one", "two", None)
    }
    assert len(keys) == 9


def test_the_weights_do_not_depend_on_the_machine_or_the_windows(wanted: Recipe) -> None:
    other = replace(wanted, target="cuda", context_window_size=7, prefill_chunk_size=7, max_sequences=7)
    assert key(weights_inputs(wanted, SOURCE, None)) == key(weights_inputs(other, SOURCE, None))


@pytest.mark.parametrize("package", ["apache-tvm", "apache-tvm-ffi"])
def test_the_library_depends_on_versions(
    package: str, wanted: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = library_inputs(wanted, CONFIG, TARGET, "model.so")
    plain = fingerprint.installed
    monkeypatch.setattr(fingerprint, "installed", lambda name: "0.1" if name == package else plain(name))
    after = library_inputs(wanted, CONFIG, TARGET, "model.so")
    assert key(before) != key(after)
    (changed,) = changed_inputs(before, after)
    assert why([changed], before, after) == f"{changed} {plain(package)} -> 0.1"


def test_the_library_depends_on_numbers_target_and_file(wanted: Recipe) -> None:
    variants = [
        (CONFIG, TARGET, "model.so"),
        (CONFIG | {"context_window_size": 2048}, TARGET, "model.so"),
        (CONFIG | {"prefill_chunk_size": 256}, TARGET, "model.so"),
        (CONFIG | {"max_batch_size": 2}, TARGET, "model.so"),
        (CONFIG, TARGET | {"cpu": "haswell"}, "model.so"),
        (CONFIG, TARGET | {"features": ["avx2"]}, "model.so"),
        (CONFIG, TARGET, "model.tar"),
    ]
    keys = {key(library_inputs(wanted, *variant)) for variant in variants}
    assert len(keys) == len(variants)
    assert key(library_inputs(replace(wanted, quantization="q0f16"), *variants[0])) not in keys


def test_the_library_does_not_depend_on_the_weights(wanted: Recipe) -> None:
    other = replace(wanted, quantizer="round")
    one, two = (library_inputs(item, CONFIG, TARGET, "model.so") for item in (wanted, other))
    assert key(one) == key(two)


def test_order_does_not_matter() -> None:
    assert key({"a": 1, "b": {"c": 2, "d": 3}}) == key({"b": {"d": 3, "c": 2}, "a": 1})


def test_an_edited_source_file_changes_the_hash(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    inner, outer = tmp_path / "kernels" / "a.py", tmp_path / "b.py"
    inner.write_text("x = 1\n")
    outer.write_text("y = 1\n")
    hashes = {source_hash(["kernels", "b.py"], tmp_path)}
    inner.write_text("x = 2\n")
    hashes.add(source_hash(["kernels", "b.py"], tmp_path))
    (tmp_path / "kernels" / "c.py").write_text("")
    hashes.add(source_hash(["kernels", "b.py"], tmp_path))
    outer.unlink()
    hashes.add(source_hash(["kernels", "b.py"], tmp_path))
    assert len(hashes) == 4
    before = source_hash(["kernels"], tmp_path)
    inner.write_bytes(b"x = 2\r\n")
    (tmp_path / "kernels" / "notes.txt").write_text("not code")
    assert source_hash(["kernels"], tmp_path) == before


def imported(module: str, seen: set[str]) -> set[str]:
    """Files of the compiler that `module` leads to, itself included, by name below the package."""
    path = COMPILE / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    name = file.relative_to(COMPILE).as_posix()
    if name in seen or not file.is_file():
        return seen
    if (
        name == "targets.py" and "weights/gptq.py" in seen
    ):  # by which instructions codes are chosen: no matter
        return seen
    seen.add(name)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edge_router.compile"):
            inner = (node.module or "").removeprefix("edge_router.compile").removeprefix(".")
            imported(inner, seen) if inner else None
            for alias in node.names:
                imported(f"{inner}.{alias.name}".lstrip("."), seen)
    return seen


@pytest.mark.parametrize(
    ("module", "listed"),
    [
        ("weights.package", fingerprint._WEIGHTS_SOURCES),
        ("weights.ready", fingerprint._WEIGHTS_SOURCES),
        ("library", (*fingerprint._LIBRARY_SOURCES, *fingerprint._GPU_SOURCES)),
    ],
)
def test_every_file_that_takes_part_is_hashed(module: str, listed: tuple[str, ...]) -> None:
    for name in imported(module, set()) - {"__init__.py"}:
        assert name in listed or name.split("/")[0] in listed, f"{name} takes part and is not in the hash"
    assert all((COMPILE / name).exists() for name in listed)


def test_reasons_are_words_and_not_hashes() -> None:
    old = {"tvm": "0.26", "compiler": "a" * 64, "target": {"cpu": "haswell", "features": ["x"] * 30}}
    new = {"tvm": "0.27", "compiler": "b" * 64, "target": {"cpu": "znver4", "features": ["y"] * 30}}
    assert why(changed_inputs(old, new), old, new) == (
        "compiler; target.cpu haswell -> znver4; target.features; tvm 0.26 -> 0.27"
    )
    assert why(["target.cpu"], {}, new) == "target.cpu None -> znver4"


def test_versions_of_what_is_not_installed() -> None:
    assert fingerprint.installed("no-such-distribution") is None
    assert fingerprint.installed("apache-tvm")
