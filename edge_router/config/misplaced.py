"""Keys of services, which belong into no setting: where one is put instead, and that none stands there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edge_router.config.callers import CALLERS
from edge_router.config.named_tables import of_named
from edge_router.config.sections import ServerConfig, StrongConfig
from edge_router.errors import ConfigError
from edge_router.errors.redaction import HIDDEN, REST, is_key, may_be_key

if TYPE_CHECKING:
    from edge_router.config.settings import Config


def misplaced(key: str, value: object, source: str) -> ConfigError:
    """A key of some service stands in the configuration, where it would be shown, kept and copied."""
    section = ServerConfig if key.startswith("server.") else StrongConfig
    keyring = "" if section is ServerConfig else " or into the system's keyring"
    place = f"put it into the environment variable {section().api_key_env}{keyring}"
    if (of := of_named(key)) is not None:
        ways = f", or run `edge-router keys new {of.one}`" if of.table == CALLERS else keyring
        place = f"put it into a variable that {of.table}.{of.one}.api_key_env names{ways}"
    reason = f"no key belongs into the configuration: {place}"
    return ConfigError(key, value, reason, source, misplaced_key=True)


def check_keys(config: Config) -> None:
    """No setting holds a key."""
    for key in config.every_key():
        value = config.get(key)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and any(map(is_key, (text, *_shown_parts(text)))):
                raise misplaced(key, HIDDEN, config.origin(key))
        if key.endswith(".api_key_env") and value and not is_variable(str(value)):
            reason = "must be the name of the environment variable that holds the key, not the key itself"
            raise ConfigError(key, REST, reason, config.origin(key), misplaced_key=True)


def _shown_parts(text: str) -> list[str]:
    """The parts of an address that are shown wherever it is told of: its host and its path."""
    _, separator, rest = text.partition("://")
    return re.split(r"[/.:]", re.split(r"[?#]", rest, maxsplit=1)[0].rpartition("@")[2]) if separator else []


def is_variable(name: str) -> bool:
    """Whether it can be the name of a variable of the environment, and is no key itself."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None and not may_be_key(name)
