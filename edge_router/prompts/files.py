"""Where a model directory keeps its chat template: five places, as transformers has had them over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge_router.errors import InvalidModel
from edge_router.parsing import strict_json

TEMPLATE_FILE, OLDER_FILE, CONFIG_FILE = "chat_template.jinja", "chat_template.json", "tokenizer_config.json"
TEMPLATE_FOLDER = "additional_chat_templates"  # NAME.jinja each


def template_of(directory: Path) -> str | None:
    """The source of the default template; None where no file has one. Raises `InvalidModel`."""
    alone = directory / TEMPLATE_FILE
    if alone.is_file():
        return _read(alone)
    for file in (directory / OLDER_FILE, directory / CONFIG_FILE):
        found = _default(read_object(file).get("chat_template"))
        if found is not None:
            return found
    named = {file.stem: file for file in sorted((directory / TEMPLATE_FOLDER).glob("*.jinja"))}
    chosen = named.get("default") or next(iter(named.values()), None)
    return None if chosen is None else _read(chosen)


def read_object(file: Path) -> Mapping[str, object]:
    """A JSON object; an empty one where the file is missing. Raises `InvalidModel`."""
    try:
        return strict_json.read_object(file)
    except FileNotFoundError:
        return {}
    except (OSError, strict_json.NotJson) as error:
        raise InvalidModel(file, f"cannot be read: {error}") from error


def _default(template: object) -> str | None:
    """The template itself, or the one named default out of several."""
    if isinstance(template, list):
        template = {
            entry.get("name"): entry.get("template") for entry in template if isinstance(entry, Mapping)
        }
    if isinstance(template, Mapping):
        template = template.get("default", next(iter(template.values()), None))
    return template if isinstance(template, str) else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidModel(file, f"cannot be read: {error}") from error
