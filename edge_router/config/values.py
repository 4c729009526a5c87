"""One setting's value, from a file, a variable or an argument, as the type that it is of."""

from __future__ import annotations

import types
import typing
from typing import Any

from edge_router.config.tiers import TierConfig
from edge_router.errors import ConfigError


def setting_value(key: str, value: object, hint: Any, source: str) -> object:
    """`value` as `hint`; strings (the environment, the command line) are read, other types must fit.

    Raises `ConfigError`, which names `key` and `source`.
    """
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    wanted = next(option for option in options if option is not type(None))
    if type(None) in options and (value is None or value == ""):
        return None
    if typing.get_origin(wanted) is tuple and typing.get_args(wanted)[0] is TierConfig:
        return TierConfig.read(key, value, source)
    if typing.get_origin(wanted) is tuple:
        parts = (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )
        if isinstance(parts, list | tuple) and all(isinstance(part, str) for part in parts):
            return tuple(parts)
        raise ConfigError(key, value, "must be a list of strings", source)
    if wanted is bool:
        word = str(value).lower()
        if word in {"true", "1", "yes", "on"}:
            return True
        if word in {"false", "0", "no", "off"}:
            return False
        raise ConfigError(key, value, "must be true or false", source)
    if wanted is str and isinstance(value, str):
        return value
    if wanted in (int, float) and not isinstance(value, bool) and isinstance(value, str | int | float):
        try:
            number = wanted(value)
        except (ValueError, OverflowError):
            number = None
        if number is not None and (wanted is float or float(value) == number):
            return number
    names = {int: "a whole number", float: "a number", str: "a string"}
    raise ConfigError(key, value, f"must be {names[wanted]}", source)
