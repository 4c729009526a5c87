"""The dashboard's own files as they go to a browser, with what that may do with them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from starlette.responses import Response

FOLDER = Path(__file__).with_name("page")
TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Nothing from elsewhere, nothing inline, no frame around it, and no text that could become markup.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",  # the link holds the token
    "cache-control": "no-store",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}


@cache
def files() -> frozenset[str]:
    """Names of what a page may load."""
    return frozenset(each.name for each in FOLDER.iterdir() if each.suffix in TYPES.keys() - {".html"})


def sent(name: str, status: int = 200) -> Response:
    """One of the folder's files."""
    file = FOLDER / name
    kind = f"{TYPES[file.suffix]}; charset=utf-8"
    return Response(file.read_bytes(), status, {**_HEADERS, "content-type": kind})
