"""Conversations that outgrow the window, with a model that counts words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.control.truncation import truncated
from edge_router.engines.base import Prompt


def words(count: int) -> str:
    return " ".join(["w"] * count)


def counted(request: ChatRequest) -> int:
    return sum(len(message.text.split()) for message in request.messages)


def prepare(request: ChatRequest) -> Prompt:
    return Prompt(request, counted(request))


def conversation(*turns: tuple[str, int], **fields) -> ChatRequest:
    return ChatRequest(tuple(Message(role, words(count)) for role, count in turns), **fields)


def roles(request: ChatRequest) -> str:
    return "".join(message.role[0] for message in request.messages)


LONG = (("system", 5), ("user", 20), ("assistant", 30), ("user", 20), ("assistant", 30), ("user", 10))


def test_the_oldest_turns_go_and_the_system_prompt_stays() -> None:
    prompt, dropped = truncated(conversation(*LONG, max_tokens=10), prepare, 80) or (None, 0)
    assert prompt is not None
    shorter = prompt.request
    assert (roles(shorter), dropped, counted(shorter)) == ("suau", 2, 65)
    assert shorter.max_tokens == 10


def test_room_is_kept_for_the_answer_where_there_is_any() -> None:
    # 65 words would fit into 80, but not with a quarter of 80 beside them
    asked = conversation(*LONG, max_tokens=1000)
    assert truncated(asked, prepare, 80) == (
        prepare(conversation(("system", 5), ("user", 10), max_tokens=1000)),
        4,
    )
    # the last message alone leaves no quarter free, and fits
    tight = conversation(("user", 50), ("assistant", 9), ("user", 18))
    assert truncated(tight, prepare, 20) == (prepare(conversation(("user", 18))), 2)


def test_what_cannot_be_shortened() -> None:
    assert truncated(conversation(("user", 100)), prepare, 50) is None
    assert truncated(conversation(("user", 9), ("assistant", 9), ("user", 100)), prepare, 50) is None
    assert truncated(conversation(("system", 100), ("user", 9), ("user", 1)), prepare, 50) is None
    assert truncated(conversation(*LONG, raw_prompt="w w"), prepare, 80) is None
    assert truncated(conversation(*LONG), Prompt, 80) is None
    assert truncated(conversation(("assistant", 100)), prepare, 50) is None


def test_what_is_kept_begins_with_the_users_words() -> None:
    turns = (("user", 40), ("assistant", 5), ("tool", 5), ("assistant", 5), ("user", 5), ("assistant", 5))
    prompt, dropped = truncated(conversation(*turns), prepare, 40) or (None, 0)
    assert prompt is not None and (roles(prompt.request), dropped) == ("ua", 4)


turns = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "system"]), st.integers(0, 40)), min_size=1, max_size=12
)


@given(turns, st.integers(4, 200), st.integers(1, 300))
def test_what_comes_back_fits_and_keeps_order_system_prompts_and_the_end(spoken, window, max_tokens) -> None:
    request = conversation(*spoken, ("user", 3), max_tokens=max_tokens)
    found = truncated(request, prepare, window)
    if found is None:
        return
    prompt, dropped = found
    shorter = prompt.request
    assert prompt == prepare(shorter) and counted(shorter) < window
    assert len(shorter.messages) + dropped == len(request.messages) and dropped >= 0
    left = iter(request.messages)
    assert all(any(message is other for other in left) for message in shorter.messages)
    assert shorter.messages[-1] is request.messages[-1]
    kept = [message for message in shorter.messages if message.role == "system"]
    assert kept == [message for message in request.messages if message.role == "system"]
    spoken_roles = [message.role for message in shorter.messages if message.role != "system"]
    assert spoken_roles[0] == "user"
