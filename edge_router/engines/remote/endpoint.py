"""The address of a remote model, taken apart into what may be shown and what may not."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import field
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from edge_router.errors import ConfigError
from edge_router.records import dataclass

OPENAI_URL = "https://api.openai.com/v1"
SHORTEST_SECRET = 16  # characters of a query's value; shorter ones are versions and the like


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A base_url taken apart: logs and errors of the HTTP library quote addresses, credentials and all."""

    url: str  # without credentials, query and fragment
    query: Mapping[str, str] = field(repr=False)
    authorization: str | None = field(repr=False)  # from user:password@
    secrets: tuple[str, ...] = field(repr=False)  # what no error may quote
    socket: str | None = field(default=None, repr=False)  # the Unix socket that it is asked by
    setting: str = field(default="strong.base_url", repr=False)  # that holds it

    @property
    def told(self) -> str:
        """Where it is, as a person would look for it."""
        return self.url if self.socket is None else f"unix:{self.socket}"

    @property
    def is_openai(self) -> bool:
        return urlsplit(self.url).hostname == urlsplit(OPENAI_URL).hostname

    @classmethod
    def parse(cls, base_url: str | None, key: str = "strong.base_url") -> Endpoint:
        """`key` is the setting that holds it. Raises `ConfigError`."""
        try:
            parts = urlsplit(base_url or OPENAI_URL)
            host, port = parts.hostname, parts.port
        except ValueError:  # whose words may quote a password
            raise ConfigError(key, base_url, "is not an address") from None
        if not host or parts.scheme not in ("http", "https"):
            raise ConfigError(key, base_url, "must be http:// or https:// and a host")
        place = f"[{host}]" if ":" in host else host
        url = urlunsplit((parts.scheme, f"{place}:{port}" if port else place, parts.path, "", ""))
        query = dict(parse_qsl(parts.query))
        hidden = tuple(value for value in query.values() if len(value) >= SHORTEST_SECRET)
        if parts.username is None:
            return cls(url, query, None, hidden, setting=key)
        user, password = unquote(parts.username), unquote(parts.password or "")
        coded = b64encode(f"{user}:{password}".encode()).decode()
        secrets = tuple(text for text in (coded, password) if text)
        return cls(url, query, f"Basic {coded}", (*secrets, *hidden), setting=key)
