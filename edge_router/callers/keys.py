"""Keys of callers: made, hashed for the configuration, and told apart.

A key of ours has 256 bits of chance, so a plain salted hash is as good as a slow one: nobody guesses it, and
each request is checked within microseconds. A key from a variable is hashed when it is read, so that one
compares hashes only, which have one length.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence

from edge_router.config.callers import CALLERS, HASH, CallerConfig
from edge_router.errors import ConfigError
from edge_router.records import dataclass

PREFIX = "sk-er-"  # some clients take no other beginning, and what looks for leaked keys knows it
SHORTEST = 16  # characters of a key that somebody made up


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    """What the configuration holds in the place of `key`."""
    salt = secrets.token_hex(16)
    return f"sha256:{salt}:{_digest(key.encode(), salt).hex()}"


@dataclass(frozen=True, slots=True)
class _Entry:
    caller: str | None
    salt: str
    digest: bytes

    def fits(self, key: bytes) -> bool:
        return hmac.compare_digest(_digest(key, self.salt), self.digest)


class KeyRing:
    """Which caller a key is of. They are read once: a change of the settings counts after a new start."""

    def __init__(self, entries: Iterable[_Entry] = (), *, demanded: bool = False) -> None:
        """`demanded`: one is asked for, even if there is none that fits."""
        self._entries = tuple(entries)
        self.demanded = demanded or bool(self._entries)

    @classmethod
    def of(
        cls,
        callers: Sequence[CallerConfig],
        *,
        owner: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> KeyRing:
        """Those of `callers`, and that of the `owner`, who is none of them.

        A caller without a key can be named by programs only that embed this one. Raises `ConfigError` for a
        variable that holds no key, or too short a one, for a key that two have, and where nobody has any.
        """
        environment, seen = os.environ if environ is None else environ, dict[bytes, str]()
        hashed = {f"{CALLERS}.{each.name}.key_hash": each.key_hash for each in callers if each.key_hash}
        salt = secrets.token_hex(16)  # of those that are here in clear, so that they can be told apart

        def entry(name: str | None, key: str, setting: str, source: str) -> _Entry:
            found = _Entry(name, salt, _digest(_bytes(key), salt))
            same = [at for at, text in hashed.items() if _parsed(None, text).fits(_bytes(key))]
            if seen.setdefault(found.digest, setting) != setting or same:
                raise ConfigError(setting, source, f"holds the same key as {[*same, seen[found.digest]][0]}")
            return found

        entries = [] if owner is None else [entry(None, owner, "server.api_key_env", "")]
        for each in callers:
            variable, at = each.api_key_env, f"{CALLERS}.{each.name}"
            key = environment.get(variable, "").strip() if variable else ""
            if variable and len(key) < SHORTEST:
                held = "is not set" if not key else f"holds less than {SHORTEST} characters"
                raise ConfigError(
                    f"{at}.api_key_env", variable, f"the environment variable {variable} {held}"
                )
            if key and variable:
                entries.append(entry(each.name, key, f"{at}.api_key_env", variable))
            if each.key_hash is not None:
                entries.append(_parsed(each.name, each.key_hash))
        names = [each.name for each in callers]
        if names and not entries:
            reason = f"nobody has a key; make one with `edge-router keys new {names[0]}`, or set api_key_env"
            raise ConfigError(f"{CALLERS}.{names[0]}.key_hash", None, reason)
        return cls(entries, demanded=bool(names))

    def find(self, keys: Iterable[bytes]) -> tuple[bool, str | None]:
        """Whether one of `keys` is known, and whose it is: None is the owner.

        Every entry is looked at, whichever fits, so that the time tells nothing.
        """
        known, caller = False, None
        for key in keys:
            for each in self._entries:
                if each.fits(key) and not known:
                    known, caller = True, each.caller
        return known, caller


def _parsed(caller: str | None, text: str) -> _Entry:
    """Of a hash that the configuration has checked."""
    assert HASH.fullmatch(text)
    _, salt, digest = text.split(":")
    return _Entry(caller, salt, bytes.fromhex(digest))


def _digest(key: bytes, salt: str) -> bytes:
    return hashlib.sha256(salt.encode() + key).digest()


def _bytes(key: str) -> bytes:
    """As a header brings them, whatever a variable holds."""
    return key.encode("utf-8", "surrogateescape")
