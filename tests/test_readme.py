"""The pages tell the truth: their examples run, their links lead somewhere, what is generated is renewed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {
    str(file.relative_to(ROOT)): file.read_text(encoding="utf-8")
    for file in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("[cefmt]*/**/*.md")))
}
README = PAGES["README.md"]


def blocks(mark: str, *pages: str) -> list[str]:
    """What is marked so, each text once."""
    found = (re.findall(rf"<!-- {mark} -->\n```\w*\n(.*?)```", page, re.DOTALL) for page in pages)
    return list(dict.fromkeys(block for texts in found for block in texts))


EXAMPLES = blocks("test: python", *PAGES.values())


def test_ci_finds_the_two_commands() -> None:
    assert blocks("ci: first", README) == [
        'python3 -m pip install . && edge-router chat "What is the capital of France?"\n'
    ]
    assert blocks("ci: test", README) == ["python3 -m pip install -e '.[test]' && python3 -m pytest\n"]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_its_python_runs(
    number: int, built_home: Path, strictness: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(built_home))
    done = subprocess.run(
        [sys.executable, *strictness, "-c", EXAMPLES[number]], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    if "Controller(offline=True)" in EXAMPLES[number]:
        assert "Paris" in done.stdout


def test_what_is_generated_is_what_would_be_generated() -> None:
    """Renew it with: python .ci/pages.py --write"""
    page = subprocess.run([sys.executable, str(ROOT / ".ci" / "pages.py")], capture_output=True, text=True)
    assert (page.returncode, page.stderr) == (0, "")


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_every_link_leads_somewhere() -> None:
    """To a file of the checkout, and to a heading that is there."""

    def anchors(file: Path) -> set[str]:
        titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    lost = []
    for name, text in PAGES.items():
        for link in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", text):
            path, _, anchor = link.partition("#")
            file = ROOT / name if not path else (ROOT / name).parent / path
            if not file.exists() or (anchor and anchor not in anchors(file)):
                lost.append(f"{name}: {link}")
    assert lost == []


def test_every_configuration_key_they_name_exists() -> None:
    from edge_router.config.file import flat
    from edge_router.config.settings import Config, is_known, keys
    from edge_router.routing.rules.file import parse_rules

    for name, page in PAGES.items():
        for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
            if text.startswith("[[rule]]"):
                assert len(parse_rules(text, ROOT / name)) == text.count("[[rule]]"), name
            else:
                assert [key for key in flat(text, name) if not is_known(key)] == [], name
        for key in re.findall(r"--set (\w+\.\w+)=", page):
            assert key in keys(), name
    assert Config().get("ledger.store_prompts") is False
