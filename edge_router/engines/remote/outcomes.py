"""How an answer may fail to be one, as the reader sees it. `failures.py` makes our errors of these."""

from __future__ import annotations


class Garbled(ValueError):
    """Not OpenAI's format."""


class Unfinished(Exception):
    """The body ended before the answer did."""


class EmptyAnswer(Exception):
    """The answer came to its end with nothing in it."""


class ErrorObject(Exception):
    """An error that came in place of a piece of the answer.

    `code` is an HTTP status and `kind` the error's name, where it says so.
    """

    def __init__(self, message: str, code: int | None, kind: str = "") -> None:
        self.message, self.code, self.kind = message, code, kind
        super().__init__(message)
