"""Who types at a prompt: the lines of a test, one after the other."""

from __future__ import annotations


class Person(list[object]):
    """Types these lines; an exception is a key. At the end comes Ctrl-D."""

    def __call__(self, prompt: str = "") -> object:
        line = self.pop(0) if self else EOFError()
        if isinstance(line, BaseException):
            raise line
        return line
