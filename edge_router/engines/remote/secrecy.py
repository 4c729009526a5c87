"""Keeps keys out of what the HTTP libraries log: addresses, and whatever a server sends back."""

from __future__ import annotations

import logging
import traceback

# httpx logs addresses and reason phrases at INFO, httpcore whole heads of answers at DEBUG.
_PACKAGES = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")


class LogFilter(logging.Filter):
    """Replaces `secrets` in the records of those libraries, between `start` and `stop`."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.secrets = secrets
        self._loggers: list[logging.Logger] = []

    def start(self) -> None:
        """For each logger that is there by now: a filter does not reach those below it. May be repeated."""
        for name, logger in list(logging.Logger.manager.loggerDict.items()):
            theirs = name.partition(".")[0] in _PACKAGES
            if theirs and isinstance(logger, logging.Logger) and self not in logger.filters:
                logger.addFilter(self)
                self._loggers.append(logger)

    def stop(self) -> None:
        for logger in self._loggers:
            logger.removeFilter(self)
        self._loggers = []

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        hidden = without(text, self.secrets)
        if hidden != text:
            record.msg, record.args = hidden, ()
        if record.exc_info and record.exc_info[1] is not None:
            shown = "".join(traceback.format_exception(record.exc_info[1]))
            if without(shown, self.secrets) != shown:
                record.exc_info = None
        return True


def without(text: str, secrets: tuple[str, ...]) -> str:
    """`text` with [key] in the place of each secret."""
    for secret in secrets:
        text = text.replace(secret, "[key]")
    return text
