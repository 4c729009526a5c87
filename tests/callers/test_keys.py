"""Keys of callers: made, hashed, told apart."""

from __future__ import annotations

import pytest
from table import each

from edge_router.callers.keys import KeyRing, hash_of, new_key
from edge_router.config.callers import HASH, CallerConfig
from edge_router.errors import ConfigError
from edge_router.errors.redaction import is_key

KEY, OTHER = "sk-er-" + "a1" * 16, "sk-er-" + "b2" * 16


def found(keys: KeyRing, *given: str) -> tuple[bool, str | None]:
    return keys.find(key.encode() for key in given)


def test_a_key_is_told_from_its_hash_and_by_nothing_else() -> None:
    key = new_key()
    assert is_key(key) and key != new_key()
    hashes = {hash_of(key), hash_of(key)}
    assert len(hashes) == 2 and all(HASH.fullmatch(text) for text in hashes)
    for text in hashes:
        keys = KeyRing.of([CallerConfig("anna", key_hash=text)])
        assert found(keys, key) == (True, "anna") and found(keys, "x", key) == (True, "anna")
        for wrong in ("", key[:-1], key + "x", text, text.rpartition(":")[2], new_key()):
            assert found(keys, wrong) == (False, None), wrong


def test_keys_of_variables_of_hashes_and_the_owners() -> None:
    callers = [
        CallerConfig("anna", key_hash=hash_of(KEY)),
        CallerConfig("ben", api_key_env="BEN"),
        CallerConfig("both", api_key_env="BOTH", key_hash=hash_of("c3" * 16)),
        CallerConfig("inside"),
    ]
    keys = KeyRing.of(callers, owner="the owner's", environ={"BEN": f" {OTHER}\n", "BOTH": "d4" * 16})
    for given, caller in ((KEY, "anna"), (OTHER, "ben"), ("c3" * 16, "both"), ("d4" * 16, "both")):
        assert found(keys, given) == (True, caller)
    assert found(keys, "the owner's") == (True, None) and found(keys, "?") == (False, None)
    assert keys.demanded and not KeyRing.of([]).demanded and KeyRing.of([], owner="x").demanded


@each(
    "callers, environ, words",
    (
        ([CallerConfig("a")], {}, "nobody has a key"),
        ([CallerConfig("a", api_key_env="A")], {}, "A is not set"),
        ([CallerConfig("a", api_key_env="A")], {"A": " "}, "A is not set"),
        ([CallerConfig("a", api_key_env="A")], {"A": "short"}, "less than 16"),
        (
            [CallerConfig("a", api_key_env="A"), CallerConfig("b", api_key_env="B")],
            {"A": KEY, "B": KEY},
            r"the same key as callers\.a\.api_key_env",
        ),
        ([CallerConfig("a", api_key_env="A")], {"A": OTHER}, r"the same key as server\.api_key_env"),
        (
            [CallerConfig("a", key_hash=hash_of(OTHER))],
            {"OWNER": OTHER},
            r"the same key as callers\.a\.key_hash",
        ),
        (
            [CallerConfig("a", key_hash=hash_of(KEY)), CallerConfig("b", api_key_env="B")],
            {"B": KEY},
            r"the same key as callers\.a\.key_hash",
        ),
    ),
)
def test_what_cannot_be(callers: list[CallerConfig], environ: dict[str, str], words: str) -> None:
    owner = OTHER if OTHER in environ.values() else None
    with pytest.raises(ConfigError, match=words) as caught:
        KeyRing.of(callers, owner=owner, environ=environ)
    assert (
        KEY not in str(caught.value) and OTHER not in str(caught.value) and "short" not in str(caught.value)
    )
