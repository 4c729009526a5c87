"""TypeSafe's /v1/systemone and OpenAI's /v1/decisions.

What the server does for them: it takes bodies packed with zstd, and multipart ones with images
(`files_beside`); it begins a reply that takes long with blanks, for clients give up on a silent one after ten
seconds and ask again; and it says a request's id in `x-typesafe-request-id` too. GET /v1/models has what
TypeSafe's clients read beside what OpenAI's do.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.surfaces.base import Body, Failure, QuestionsCall, SurfaceQuery
from edge_router.surfaces.decisions import encode
from edge_router.surfaces.decisions.parse_openai import parse as parse_decisions
from edge_router.surfaces.decisions.parse_systemone import REQUEST_PART
from edge_router.surfaces.decisions.parse_systemone import parse as parse_systemone
from edge_router.surfaces.openai.encode import error_body


class SystemOne:
    """See `surfaces.base.Surface`."""

    name = "typesafe-systemone"
    paths = ("/v1/systemone",)
    media_type = "application/json"
    queries: tuple[SurfaceQuery, ...] = ()
    files_beside = REQUEST_PART

    def parse(self, path: str, body: Mapping[str, object]) -> QuestionsCall:
        return QuestionsCall(parse_systemone(body), encode.systemone, any_model=True)

    def error(self, failure: Failure) -> Body:
        return encode.detail(failure)

    def status(self, failure: Failure) -> int:
        return encode.UNPROCESSABLE if failure.status == encode.BAD_REQUEST else failure.status

    def comment(self, text: str) -> bytes:
        return encode.BLANK


class Decisions:
    """See `surfaces.base.Surface`."""

    name = "openai-decisions"
    paths = ("/v1/decisions",)
    media_type = "application/json"
    queries: tuple[SurfaceQuery, ...] = ()

    def parse(self, path: str, body: Mapping[str, object]) -> QuestionsCall:
        return QuestionsCall(parse_decisions(body), encode.decisions)

    def error(self, failure: Failure) -> Body:
        return error_body(failure)

    def comment(self, text: str) -> bytes:
        return encode.BLANK
