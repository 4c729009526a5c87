"""What a wheel holds is what the disk holds."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
HOMES = {"edge_router": "edge_router", "compile": "edge_router.compile", "models": "edge_router.models"}


def packages_on_disk() -> set[str]:
    found = set()
    for folder, package in HOMES.items():
        for file in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join([package, *file.parent.relative_to(ROOT / folder).parts]))
    return found


def test_the_list_of_packages_is_the_disk() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = settings["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages_on_disk())
    folders = {file.parent for folder in HOMES for file in (ROOT / folder).rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_the_top_level_holds_what_it_should() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    visible = {line.split("/")[0] for line in done.stdout.splitlines() if not line.startswith(".")}
    allowed = {
        "pyproject.toml",
        "edge_router",
        "compile",
        "models",
        "tests",
        "README.md",
        "findings",
        "LICENSE",
        "CHANGELOG.md",
    }
    assert visible <= allowed


def test_a_python_that_is_started_in_the_checkout_finds_all_of_it() -> None:
    """Its own folder comes first on the path, even where a wheel is what is installed."""
    code = (
        "import sys; sys.meta_path[:] = [one for one in sys.meta_path if 'editable' not in repr(one)]\n"
        "from edge_router.catalog import model_cards, router_cards\n"
        "import edge_router, edge_router.compile\n"
        "assert model_cards() and router_cards(); print(edge_router.__file__, edge_router.compile.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    found = [ROOT / "edge_router" / "__init__.py", ROOT / "compile" / "__init__.py"]
    assert done.stdout.split() == [str(file) for file in found], done.stderr


CODE_AND_DATA = {".py", ".typed", ".toml", ".json", ".onnx", ".npz", ".txt", ".html", ".css", ".js", ".svg"}


def strangers(names: Iterable[str]) -> list[str]:
    """Files of a wheel that are neither code nor data of the package: tests, caches, settings, notes, keys."""
    ours = [PurePosixPath(name) for name in names if ".dist-info/" not in name]
    return [
        str(path)
        for path in ours
        if path.suffix not in CODE_AND_DATA
        or any(part.startswith((".", "test")) or part in ("__pycache__", "tests") for part in path.parts)
    ]


def test_what_does_not_belong_into_a_wheel_is_seen() -> None:
    odd = [
        "edge_router/tests/a.py",
        "edge_router/__pycache__/a.pyc",
        "edge_router/.env",
        "edge_router/README.md",
    ]
    kept = ["edge_router/a.py", "edge_router/models/routers/mf/router.onnx", "x.dist-info/RECORD"]
    assert strangers([*odd, *kept]) == odd


@pytest.mark.slow
def test_a_wheel_works_away_from_the_checkout(tmp_path: Path) -> None:
    """Built, unpacked and run from another folder: code, cards and routers are all inside."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    place = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(place)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"edge_router"}
    assert "edge_router/py.typed" in names
    assert strangers(names) == []
    assert sum(each.stat().st_size for each in tmp_path.glob("*.whl")) < 40_000_000
    code = (
        "import edge_router, edge_router.compile.pipeline;"
        "from edge_router.catalog import model_cards, router_cards;"
        "print(edge_router.__file__, *model_cards(), *router_cards());"
        "print(edge_router.Controller(offline=True).route('Prove that 2 > 1').model)"
    )
    environment = {"PYTHONPATH": str(place), "PATH": "", "EDGE_ROUTER_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first.startswith(str(place))
    assert "SmolLM2-135M-Instruct" in first
    assert "mf" in first
    assert second == "weak"


def test_the_lock_holds_what_the_default_install_asks_for() -> None:
    """Renew it with: .ci/lock"""
    lines = (ROOT / "edge_router/guide/requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    locked: dict[str, set[str]] = {}
    for line in lines.splitlines():
        if line and not line.startswith("#"):
            pinned, *hashes = line.split("--hash=sha256:")
            name, _, version = pinned.partition(";")[0].partition("==")
            assert hashes and all(len(each.strip()) == 64 for each in hashes), line[:80]
            locked.setdefault(canonicalize_name(name.strip()), set()).add(version.strip())
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    for requirement in map(Requirement, wanted):
        versions = locked.get(canonicalize_name(requirement.name), set())
        assert versions and all(requirement.specifier.contains(each) for each in versions), str(requirement)
