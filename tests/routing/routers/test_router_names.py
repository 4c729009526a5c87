from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_router.catalog import RouterCard
from edge_router.chat.message import Message
from edge_router.compile.training.card import write_card
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import DuplicateName, InvalidRouter, UnknownName
from edge_router.routing.routers import graph_cards, routers
from edge_router.routing.routers.base import AsksWeak, Router
from edge_router.surfaces.openai.parse import parse_chat

pytestmark = pytest.mark.integration

QUESTIONS = [
    "hi",
    "What is the capital of France?",
    "Prove that there are infinitely many primes congruent to 3 modulo 4, and say where the proof fails for 1.",
]


def test_the_controls_and_the_default_are_there() -> None:
    assert {"mf", "length", "random"} <= set(routers())


def loaded(name: str) -> Router:
    """The router of that name, with a scripted weak model where it asks one."""
    router = routers().get(name)(threads=1)
    if isinstance(router, AsksWeak):
        router.use_weak(lambda: ScriptedEngine(context_window_size=4096))
    return router


@pytest.mark.parametrize("name", sorted(routers()))
def test_each_router_that_ships_keeps_the_promise(name: str) -> None:
    router = loaded(name)
    assert router.name == name
    assert 0 < router.default_threshold < 1
    scores = router.score_texts(QUESTIONS)
    assert scores == [router.score([Message("user", text)]) for text in QUESTIONS]
    assert all(0 <= score <= 1 for score in scores)
    assert len(set(scores)) == len(scores)
    for strange in ("", " ", "\ud800", "x" * 100_000, "def f(): pass\n" * 5000, "你好" * 400):
        assert 0 <= router.score_texts([strange])[0] <= 1


CODE = "```python\ndef f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\n```"
CONVERSATIONS = {
    "list content": [
        {"role": "user", "content": [{"type": "text", "text": "Why?"}, {"type": "text", "text": CODE}]}
    ],
    "several turns": [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": f"What does this do?\n{CODE}"},
        {"role": "assistant", "content": "It computes Fibonacci numbers. " * 100},
        {"role": "user", "content": "Prove it."},
    ],
    "a book": [{"role": "user", "content": "It was a dark night. " * 5000 + "Who did it, and why?"}],
    "no user": [{"role": "system", "content": "You are a pirate."}],
}


@pytest.mark.parametrize("name", sorted(routers()))
def test_each_router_scores_what_clients_send(name: str) -> None:
    router = loaded(name)
    for conversation in CONVERSATIONS.values():
        messages = parse_chat({"model": "auto", "messages": conversation}).request.messages
        score = router.score(messages)
        assert 0 <= score <= 1
        assert router.score(messages) == score


@pytest.mark.parametrize("name", sorted(set(routers()) - {"random"}))
def test_the_end_of_a_book_counts(name: str) -> None:
    """Head and tail are read: what stands 100,000 characters in, where the question is, moves the score."""
    router, book = loaded(name), "It was a dark night. " * 5000
    easy, hard = router.score_texts(
        [book + "Say hi.", book + "Prove that 2^(n+1) > n^3 for n >= 9, and why?"]
    )
    assert easy != hard or name == "length"


def test_the_default_sends_the_harder_question_first() -> None:
    scores = routers().get("mf")().score_texts(QUESTIONS)
    assert scores[2] == max(scores)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        routers().get("lenght")
    assert caught.value.nearest == ("length",)


def test_naming_routers_loads_no_runtime() -> None:
    code = (
        "import sys; from edge_router.routing.routers import routers; list(routers());"
        "assert not {'onnxruntime', 'tokenizers', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_users_own_routers_stand_beside_those_that_ship(make_router: Callable[..., RouterCard]) -> None:
    card = make_router("mine")
    write_card(card)
    folder = Path(str(card.directory)).parent
    assert {"mf", "mine"} <= set(routers(folder))
    assert routers(folder).get("mine")().name == "mine"
    assert graph_cards(folder).get("mine")() == card
    assert "mine" not in routers()


def test_a_broken_router_of_the_users_keeps_no_other_from_working(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "card.toml").write_text("nonsense", encoding="utf-8")
    registry = routers(tmp_path)
    assert registry.get("length")()
    with pytest.raises(InvalidRouter, match=r"card\.toml"):
        registry.get("broken")()


def test_a_router_of_the_users_cannot_take_the_name_of_one_that_ships(tmp_path: Path) -> None:
    (tmp_path / "mf").mkdir()
    (tmp_path / "mf" / "card.toml").touch()
    with pytest.raises(DuplicateName) as caught:
        routers(tmp_path)
    assert caught.value.owners == ("edge_router", str(tmp_path / "mf"))
