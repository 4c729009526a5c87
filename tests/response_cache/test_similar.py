"""Which questions may be nearly the same, and which vectors are near."""

from __future__ import annotations

import numpy as np
import pytest

from edge_router.chat.message import Image, Message, Text
from edge_router.chat.request import ChatRequest
from edge_router.response_cache.similar import nearest, packed, question_of, remainder, telling_words
from edge_router.response_cache.store import Entry

SAME = (
    ("What is the capital of France?", "what's the capital of FRANCE"),
    ("What is the capital of France?", "Can you tell me the capital of France, please? Thanks!"),
    ("What is the capital of France?", "Hello! Tell me: the capital of France."),
    (
        "Why is the sky blue?",
        "Hey there, could you please tell me why the sky is blue?".replace("the sky is", "is the sky"),
    ),
    ("Write a poem", "Would you kindly write a poem? Thank you very much!"),
    ("How do I park?", "how do i park, please"),
    ("Translate \u201cgood night\u201d.", 'translate "good night"'),
)
OTHERS = (
    ("What is the capital of France?", "What is the capital of Spain?"),
    ("what is 17*24", "what is 17*23"),
    ("what is 3.5", "what is 35"),
    ("3 - 4", "3 + 4"),
    ("Is it safe to eat?", "Is it not safe to eat?"),
    ("Can I do it?", "Can't I do it?"),
    ("Does a dog bite a man?", "Does a man bite a dog?"),
    ("Convert miles to km", "Convert km to miles"),
    ("Fly from Rome to Oslo", "Fly to Rome from Oslo"),
    ("Who is the king?", "Where is the king?"),
    ("How is it made?", "Why is it made?"),
    ("with sugar", "without sugar"),
    ("my rights", "your rights"),
    ("the risk", "the risks"),
    ("Was ist der Preis?", "Wie ist der Preis?"),
    ("x < y", "x > y"),
    ("a[i]", "a(i)"),
    ("C", "C#"),
    ("should I", "must I"),
    # Each of these a router takes for nearly the same.
    ("What is vitamin A?", "What is a vitamin?"),
    ("Can dogs eat chocolate?", "Will dogs eat chocolate?"),
    ("Can dogs eat chocolate?", "Do dogs eat chocolate?"),
    ("Is Paris the capital of France?", "What is Paris, the capital of France?"),
    ("Are there birds in Antarctica?", "Which birds are there in Antarctica?"),
    ("What does she think of you?", "What does she think of me?"),
    ("Tell me a joke", "What is a joke?"),
    ("What is a living will?", "What is living?"),
    ("Would you eat it?", "Can you eat it?"),
    ("What is (2+3)*4?", "What is 2+3*4?"),
    ('What is "5" + "5"?', "What is 5 + 5?"),
    ("What is 5\u00b2?", "What is 52?"),
    ("What is 5!?", "What is 5?"),
    ("What is f'(x)?", "What is f(x)?"),
    ("Convert 5 mW to W", "Convert 5 MW to W"),
    ("Is it in the US?", "Is it in us?"),
    ("What is __init__?", "What is init?"),
    ("What are user_id's?", "What are user id's?"),
    ("Was sind Maße?", "Was sind Masse?"),
    ("run example.com", "run example com"),
)


def test_telling_words() -> None:
    for one, other in SAME:
        assert telling_words(one) == telling_words(other), (one, other)
    for one, other in OTHERS:
        assert telling_words(one) != telling_words(other), (one, other)


def test_what_may_be_compared_at_all() -> None:
    def asked(*messages: Message, **more: object) -> str | None:
        return question_of(ChatRequest(messages, **more))  # type: ignore[arg-type]

    hi = Message("user", "the sky")
    assert asked(hi) == asked(Message("assistant", "so"), hi) == "the sky"
    for messages, more in (
        ((hi, Message("assistant", "so")), {}),
        ((Message("user", (Text("hi"), Image("data:"))),), {}),
        ((Message("user", (Text("hi", {"cache_control": {}}),)),), {}),
        ((Message("user", "x" * 2001),), {}),
        ((Message("user", ""),), {}),
        ((Message("user", "What is this?"),), {}),
        ((hi,), {"raw_prompt": "hi"}),
        ((Message("user", "What does it print?\nif x:\n  a()\n  b()"),), {}),
    ):
        assert asked(*messages, **more) is None, messages
    left = remainder(
        ChatRequest((Message("system", "S"), Message("user", "Tell me the way.", "ann"))), "Tell me the way."
    )
    assert left.messages == (Message("system", "S"), Message("user", "way", "ann"))


def test_the_nearest() -> None:
    def entry(key: str, *vector: float) -> Entry:
        return Entry(key, "", 0.0, "weak", "m", "maker", vector=packed(np.array(vector)) if vector else None)

    entries = [entry("a", 1, 0, 0), entry("b", 3, 4, 0), entry("c"), entry("d", 1, 0)]
    found = nearest(packed(np.array([0.6, 0.8, 0])), entries)
    assert found is not None and found[0].key == "b" and found[1] == pytest.approx(1, abs=1e-3)
    assert nearest(packed(np.array([1.0] * 5)), entries) is None and nearest(b"", []) is None
    zero = nearest(packed(np.zeros(3)), entries)
    assert zero is not None and zero[1] == 0
