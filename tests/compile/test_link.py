"""Libraries as objects and as shared ones, with whatever links them here; and without anything that does."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.compile import link
from edge_router.compile.targets import host_target, tvm_target
from edge_router.device import host
from edge_router.engines.tvm.runtime import load_runtime
from edge_router.errors import ArtifactCorrupt, BuildFailed, EngineUnavailable, LinkerMissing


@pytest.fixture(scope="module")
def executable() -> Any:
    """A function that doubles."""
    import tvm
    from tvm import relax

    target = tvm_target(host_target(host()))
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([4], "float32"))
    with builder.function("twice", [x]):
        builder.emit_func_output(builder.emit(relax.op.add(x, x)))
    with tvm.transform.PassContext():
        return relax.build(builder.finalize(), target)


def doubles(path: Path) -> bool:
    load_runtime()
    import tvm

    given = tvm.runtime.tensor(np.float32([1, 2, 3, 4]))
    return bool(np.array_equal(link.load_library(path)["twice"](given).numpy(), [2, 4, 6, 8]))


def test_objects_need_no_compiler(executable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    path = tmp_path / "model.tar"
    link.link(executable, path)
    assert doubles(path)


def test_equal_code_gives_equal_files(executable: Any, tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        link.link(executable, tmp_path / name)
    with tarfile.open(tmp_path / "a.tar") as a, tarfile.open(tmp_path / "b.tar") as b:
        assert a.getnames() == b.getnames()
        assert {entry.mtime for entry in a} == {0}


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_a_shared_library(executable: Any, tmp_path: Path) -> None:
    path = tmp_path / f"model{link.shared_suffix()}"
    link.link(executable, path)
    assert doubles(path)


def test_a_library_loads_without_the_compiler(executable: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.tar"
    link.link(executable, path)
    script = """
        import sys
        from pathlib import Path
        from edge_router.engines.tvm.runtime import load_runtime
        from edge_router.compile.link import load_library
        load_runtime()
        assert load_library(Path(sys.argv[1])).implements_function("twice")
        assert "tvm" not in sys.modules
    """
    run = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    subprocess.run(run, check=True, timeout=120)


def test_without_a_linker_the_choices_are_named(
    executable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(link, "find_spec", lambda name: None)
    with pytest.raises(LinkerMissing) as caught:
        link.link(executable, tmp_path / "model.so")
    assert {"clang", "ziglang"} <= set(caught.value.tried)
    monkeypatch.setenv("CC", "mycc")
    with pytest.raises(LinkerMissing) as caught:
        link.link(executable, tmp_path / "model.so")
    assert tuple(caught.value.tried) == ("mycc", "ziglang")
    assert link.library_name() == f"model{link.shared_suffix()}"


def test_ziglang_serves_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(link, "find_spec", lambda name: object() if name == "ziglang" else None)
    assert link.compiler() == [sys.executable, "-m", "ziglang", "cc"]


def test_cc_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", sys.executable)
    assert link.compiler() == [sys.executable]


def test_a_failing_linker_is_quoted(executable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", sys.executable)  # which can do much, but not link
    with pytest.raises(BuildFailed, match="link"):
        link.link(executable, tmp_path / "model.so")


@pytest.mark.parametrize("content", [b"", b"no archive", b"\0" * 2048])
def test_a_damaged_library_is_a_corrupt_artifact(tmp_path: Path, content: bytes) -> None:
    load_runtime()
    path = tmp_path / "model.tar"
    path.write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match=r"model\.tar"):
        link.load_library(path)


def test_an_archive_of_something_else_is_a_corrupt_artifact(tmp_path: Path) -> None:
    load_runtime()
    path, inner = tmp_path / "model.tar", tmp_path / "lib0.o"
    inner.write_bytes(b"\x7fELF" + bytes(100))
    with tarfile.open(path, "w") as archive:
        archive.add(inner, "lib0.o")
    with pytest.raises(ArtifactCorrupt):
        link.load_library(path)


def test_without_the_loader_it_is_named(
    executable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.tar"
    link.link(executable, path)
    monkeypatch.setattr(link, "find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match="orcjit"):
        link.load_library(path)
