"""Conversations that the user lets be kept (`chat --keep`), to be gone on with: a file each."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import field
from pathlib import Path

from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.system.disk import storage_errors

Message = dict[str, str]
LAST = "last"


@dataclass
class KeptConversation:
    """`messages` by OpenAI's names, without the `system` one; `changed` in seconds since 1970. `private`: a
    part of it was, so that all that goes on with it is.
    """

    name: str = field(default_factory=lambda: secrets.token_hex(3))
    system: str | None = None
    messages: list[Message] = field(default_factory=list)
    changed: float = field(default_factory=time.time)
    private: bool = False

    @property
    def title(self) -> str:
        """How it began, on one line."""
        return " ".join(self.messages[0]["content"].split()) if self.messages else ""


class KeptConversations:
    """All in one folder, which only their user may read. Several processes may write: the last one wins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[KeptConversation]:
        """The last changed first; a file that is none of ours is left out."""
        found = [_read(file) for file in self.folder.glob("*.json")]
        return sorted((each for each in found if each is not None), key=lambda each: -each.changed)

    def named(self, name: str) -> KeptConversation | None:
        """By its name or the beginning of it, or the last one; None where there is none, or several."""
        every = self.all()
        if name == LAST:
            return every[0] if every else None
        found = [each for each in every if name and each.name.startswith(name)]
        return found[0] if len(found) == 1 else None

    def save(self, kept: KeptConversation) -> None:
        """Raises `StorageError`."""
        from edge_router.system.disk import write_text

        kept.changed = time.time()
        facts = {
            "system": kept.system,
            "messages": kept.messages,
            "changed": kept.changed,
            "private": kept.private,
        }
        with storage_errors(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            write_text(self.folder / f"{kept.name}.json", json.dumps(facts, ensure_ascii=False) + "\n")
            (self.folder / f"{kept.name}.json").chmod(0o600)

    def remove(self, kept: KeptConversation) -> None:
        """Raises `StorageError`."""
        with storage_errors(self.folder):
            (self.folder / f"{kept.name}.json").unlink(missing_ok=True)

    def remains(self) -> list[Path]:
        """Files that hold what can be read of a conversation and are none: damaged, or half written by a
        process that was killed.
        """
        spoilt = [file for file in self.folder.glob("*.json") if _read(file) is None]
        return sorted([*spoilt, *self.folder.glob(".*.draft")])


def _read(file: Path) -> KeptConversation | None:
    try:
        told = strict_json.read_object(file)
        messages = [{"role": str(each["role"]), "content": str(each["content"])} for each in told["messages"]]
        system = told["system"]
        private = told["private"] is not False
        return KeptConversation(
            file.stem, None if system is None else str(system), messages, float(told["changed"]), private
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
