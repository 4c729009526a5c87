"""A configuration file's text, and the values in it by their keys."""

from __future__ import annotations

import tomllib
from pathlib import Path

from edge_router.config.named_tables import NAMED_TABLES
from edge_router.errors import ConfigError
from edge_router.system.disk import read_small


def read_text(path: Path) -> str:
    """What a configuration file says, also one that an editor began with a byte order mark.

    Raises `ConfigError`.
    """
    try:
        return read_small(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("file", str(path), f"not valid TOML: {error}", str(path)) from error
    except OSError as error:
        raise ConfigError("file", str(path), f"cannot be read: {error.strerror}", str(path)) from error


def flat(text: str, source: str) -> dict[str, object]:
    """The values of such a text by their keys. Raises `ConfigError`, which names `source`."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of a number of 5000 digits, of deep nesting
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError("file", source, f"not valid TOML: {reason}", source) from error
    found: dict[str, object] = {}
    for name, value in data.items():
        if name in NAMED_TABLES and isinstance(value, dict):
            for one, settings in value.items():
                inside = isinstance(settings, dict) and settings
                found |= (
                    {f"{name}.{one}.{inner}": item for inner, item in settings.items()}
                    if inside
                    else {f"{name}.{one}": settings}
                )
        elif isinstance(value, dict):
            found |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            found[name] = value
    return found
