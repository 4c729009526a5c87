"""Reading what a person types: line editing where the platform has it, pasted lines as one message.

A message that begins with three double quotes goes on until three more.
"""

from __future__ import annotations

import contextlib
import sys

FENCE = '"""'
_PASTE_WAIT_S = 0.02  # lines of a paste follow each other faster than anyone types


class LineReader:
    def __init__(self, prompt: str = "> ", continued: str = ". ") -> None:
        self._prompt, self._continued = prompt, continued
        with contextlib.suppress(ImportError):  # Windows has none; its console edits lines itself
            import readline

            # A paste then arrives as one text, with its line breaks.
            readline.parse_and_bind("set enable-bracketed-paste on")

    def read(self) -> str:
        """The next message. Raises `EOFError` at the end, `KeyboardInterrupt` on Ctrl-C."""
        text = self._line(self._prompt)
        if text.lstrip().startswith(FENCE):
            return self._fenced(text.lstrip().removeprefix(FENCE))
        lines = [text]
        while more_is_waiting():
            lines.append(self._line(""))
        return "\n".join(lines).strip()

    def _fenced(self, text: str) -> str:
        lines = [text]
        while not lines[-1].rstrip().endswith(FENCE):
            lines.append(self._line(self._continued))
        lines[-1] = lines[-1].rstrip().removesuffix(FENCE)
        return "\n".join(lines).strip()

    def _line(self, prompt: str) -> str:
        """input() shows its prompt on stdout, which is right only where stdout is this terminal."""
        if sys.stdout.isatty():
            return input(prompt)
        sys.stderr.write(prompt)
        sys.stderr.flush()
        return input()


def more_is_waiting() -> bool:
    """Whether more has been typed or pasted than the line that was just read."""
    if sys.platform == "win32":
        import msvcrt

        return bool(msvcrt.kbhit())
    import select

    try:
        ready, _, _ = select.select([sys.stdin], [], [], _PASTE_WAIT_S)
    except (OSError, ValueError):  # a stdin that is no file, as in tests
        return False
    return bool(ready)
