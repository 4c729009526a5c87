"""The README tells the truth: its examples run, its page of structure is the tree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(mark: str) -> list[str]:
    return re.findall(rf"<!-- {mark} -->\n```\w*\n(.*?)```", README, re.DOTALL)


def test_ci_finds_the_two_commands() -> None:
    assert blocks("ci: first") == [
        'python3 -m pip install . && edge-router chat "What is the capital of France?"\n'
    ]
    assert blocks("ci: test") == ["python3 -m pip install -e '.[test]' && python3 -m pytest\n"]


@pytest.mark.parametrize("number", range(len(blocks("test: python"))))
def test_its_python_runs(
    number: int, built_home: Path, strictness: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(built_home))
    done = subprocess.run(
        [sys.executable, *strictness, "-c", blocks("test: python")[number]], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    if "Controller(offline=True)" in blocks("test: python")[number]:
        assert "Paris" in done.stdout


def test_its_page_of_structure_is_the_tree() -> None:
    """Renew it with: python .ci/structure.py --write"""
    page = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "structure.py")], capture_output=True, text=True
    )
    assert page.returncode == 0, page.stderr
    marked = re.search(r"<!-- structure -->\n(.*?)<!-- /structure -->", README, re.DOTALL)
    assert marked is not None
    assert marked.group(1) == page.stdout


def test_every_configuration_key_it_names_exists() -> None:
    from edge_router.config import Config, flat, is_known, keys
    from edge_router.rules.file import parse_rules

    for text in re.findall(r"```toml\n(.*?)```", README, re.DOTALL):
        if text.startswith("[[rule]]"):
            assert len(parse_rules(text, ROOT / "README.md")) == text.count("[[rule]]")
        else:
            assert [key for key in flat(text, "README.md") if not is_known(key)] == []
    for name in re.findall(r"--set (\w+\.\w+)=", README):
        assert name in keys()
    assert Config().get("ledger.store_prompts") is False
