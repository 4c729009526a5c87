"""Who may look at the dashboard: a link that works once, and the sessions of browsers that it has opened."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict

MOST = 16  # browsers; the one that came first has to be let in again


class DashboardAccess:
    """Used on the event loop only. What it keeps ends with the server."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)
        self._sessions = OrderedDict[bytes, None]()

    def enter(self, token: str) -> str | None:
        """The session of a new browser, for which the token is used up: there is another one now. None where
        it is not the token."""
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode()):
            return None
        self.token, session = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._sessions[_digest(session)] = None
        if len(self._sessions) > MOST:
            self._sessions.popitem(last=False)
        return session

    def knows(self, session: str | None) -> bool:
        return session is not None and _digest(session) in self._sessions


def _digest(session: str) -> bytes:
    """What is looked up: the time that this takes tells nothing of a session that is here."""
    return hashlib.sha256(session.encode("utf-8", "replace")).digest()
