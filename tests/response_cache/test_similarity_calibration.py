"""The bound from which on two questions count as nearly the same."""

from __future__ import annotations

import re
import zlib

import numpy as np

from edge_router.response_cache.calibration import LEAST, MOST, calibrate_similarity, usable

TOWNS = ("Rome", "Oslo", "Bern", "Lima", "Kyiv", "Riga", "Doha", "Baku", "Nuuk", "Apia", "Suva", "Male")
ASKED = [f"{way} {town}?" for way in ("How large is", "Who founded", "Where is") for town in TOWNS]


def bag(texts: list[str]) -> np.ndarray:
    """A vector that counts words, whatever their order."""
    made = np.zeros((len(texts), 64))
    for row, text in zip(made, texts, strict=True):
        for word in re.findall(r"\w+", text.lower()):
            row[zlib.crc32(word.encode()) % 64] += 1
    return made


def test_most_wrappings_are_known_again() -> None:
    found = calibrate_similarity(bag, ASKED)
    assert found.n == 36 and 0.4 < found.similarity < 0.99 and found.wrapped >= 0.94
    assert found.changed > 0.4  # two words that swap their places are the same bag
    assert found.pairs == () and found == calibrate_similarity(bag, ASKED)
    told = found.to_dict()
    assert list(told) == ["n", "similarity", "wrapped", "changed_by_vector_alone", "pairs"]


def test_pairs_of_ones_own_are_shown() -> None:
    found = calibrate_similarity(bag, [*ASKED, "where is rome", "Can you tell me where Rome is?"])
    assert {(pair.one, pair.other) for pair in found.pairs} == {("Where is Rome?", "where is rome")} or {
        pair.other for pair in found.pairs
    } == {"where is rome", "Can you tell me where Rome is?"}
    assert all(pair.cosine >= found.similarity for pair in found.pairs)


def test_what_can_be_used() -> None:
    texts = ["Where is Rome?", "Where is Rome?", "", "What is this?", "x" * 2001, "Why?"]
    assert usable(texts) == ["Where is Rome?", "Why?"] and LEAST > 2
    assert len(usable([f"prompt {n}" for n in range(MOST + 5)])) == MOST
    calibrate_similarity(bag, ["Why?"] * 3)  # nothing to swap
