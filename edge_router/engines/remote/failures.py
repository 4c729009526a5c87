"""The one place where what the `openai` client raises becomes ours, and where a retry is considered."""

from __future__ import annotations

import os
import random
import socket
import ssl
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edge_router.engines.remote.complaints import Complaint
from edge_router.engines.remote.deadlines import RETRIES_S, Overdue
from edge_router.engines.remote.outcomes import EmptyAnswer, ErrorObject, Garbled, Unfinished
from edge_router.engines.remote.secrecy import without
from edge_router.engines.remote.transport import Redirected
from edge_router.errors import (
    StrongEmpty,
    StrongError,
    StrongFailed,
    StrongGarbled,
    StrongInterrupted,
    StrongQuotaExceeded,
    StrongRateLimited,
    StrongRedirected,
    StrongRefused,
    StrongTimeout,
    StrongUnauthorized,
    StrongUnreachable,
)
from edge_router.records import dataclass
from edge_router.system.network import Proxy

if TYPE_CHECKING:
    import openai

FIRST_WAIT_S = 0.25
LONGEST_MESSAGE = 300


_OURS = (Garbled, Unfinished, EmptyAnswer, ErrorObject, Overdue, Redirected)


@dataclass(frozen=True, slots=True)
class EndpointFailure:
    """`error` is ours, `cause` theirs, unless a key would be read in it."""

    error: StrongError
    cause: BaseException | None
    passing: bool = False  # another try may help, if nothing of the answer was shown
    retry_after_s: float | None = None

    def wait_s(self, attempt: int) -> float | None:
        """Seconds before try number `attempt` + 1, counted from 0; None: don't.

        Doubles each time, shortened at random by up to a quarter so that many clients don't return at
        once. A wait that the server asked for is kept to the letter.
        """
        if not self.passing or (self.retry_after_s or 0) > RETRIES_S:
            return None
        if self.retry_after_s is not None:
            return self.retry_after_s
        return min(FIRST_WAIT_S * 2.0**attempt, RETRIES_S) * random.uniform(0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Translator:
    """What the sentences need to know of one attempt."""

    endpoint: str  # without credentials
    secrets: tuple[str, ...]  # what no error may hold
    key_source: str | None
    timeout_s: float
    connect_timeout_s: float
    transport: ModuleType  # the HTTP library beneath the client: httpx, or httpx2 in later ones
    proxy: Proxy | None = None

    def caught(self) -> tuple[type[Exception], ...]:
        """Everything that an attempt may raise and `failure` understands."""
        import anyio
        import openai

        transport = (self.transport.HTTPError, self.transport.InvalidURL, self.transport.StreamError)
        return (openai.OpenAIError, *transport, OSError, anyio.EndOfStream, *_OURS)

    def failure(self, error: Exception, *, started: bool, refused: str | None = None) -> EndpointFailure:
        """`started`: a part of the answer was shown already. `refused`: it is about that field."""
        import openai

        if isinstance(error.__cause__, _OURS):  # which older clients take for a failed connection
            error = error.__cause__
        kept = None if self._tells(error) else error
        said = None if started else complaint_of(error)
        if said is not None and said.is_about_quota:
            return EndpointFailure(
                StrongQuotaExceeded(self.endpoint, said.status, self._clean(said.message)), kept
            )
        if said is not None and refused is not None:
            what = self._clean(said.message)
            return EndpointFailure(StrongRefused(self.endpoint, said.status, refused, what), kept)
        if isinstance(error, openai.APIStatusError):
            message, after = complaint(error), retry_after_s(error.response.headers)
            hint = error.response.headers.get("x-should-retry")
            passing = hint == "true" if hint in ("true", "false") else is_passing(error.status_code)
            return EndpointFailure(self._of_status(error.status_code, message, after), kept, passing, after)
        if isinstance(error, ErrorObject):
            if started:
                return EndpointFailure(StrongInterrupted(self.endpoint, self._clean(error.message)), kept)
            status = error.code or 200
            return EndpointFailure(self._of_status(status, error.message, None), kept, is_passing(status))
        if isinstance(error, Overdue):
            return EndpointFailure(self._of_deadline(error, started), kept)
        if isinstance(error, Redirected):
            return EndpointFailure(
                StrongRedirected(self.endpoint, error.status, self._clean(error.target)), kept
            )
        if isinstance(error, Unfinished):
            return EndpointFailure(
                StrongInterrupted(self.endpoint, "the answer ended in the middle"), kept, passing=True
            )
        if isinstance(error, EmptyAnswer):
            return EndpointFailure(StrongEmpty(self.endpoint), kept)
        if isinstance(error, Garbled | self.transport.DecodingError | openai.APIResponseValidationError):
            return EndpointFailure(StrongGarbled(self.endpoint, self._clean(str(error))), kept)
        return self._of_transport(error, kept, started)

    def _of_status(self, status: int, message: str, after: float | None) -> StrongError:
        if status in (401, 403):
            return StrongUnauthorized(self.endpoint, status, self.key_source)
        if status == 429:
            return StrongRateLimited(self.endpoint, after)
        return StrongFailed(self.endpoint, status, self._clean(message))

    def _of_deadline(self, error: Overdue, started: bool) -> StrongError:
        if not started:
            return StrongTimeout(self.endpoint, error.seconds, error.setting)
        what = "it had not ended after" if error.whole else "nothing more came for"
        return StrongInterrupted(self.endpoint, f"{what} {error.seconds:g} s, as {error.setting} says")

    def _of_transport(self, error: Exception, kept: Exception | None, started: bool) -> EndpointFailure:
        causes = tuple(_causes(error))
        reason = self._clean(_reason(causes))
        if any(isinstance(cause, self.transport.ConnectTimeout) for cause in causes):
            reason = f"no connection within {self.connect_timeout_s:g} s"
            return EndpointFailure(StrongUnreachable(self.endpoint, reason), kept)
        if any(isinstance(cause, self.transport.TimeoutException) for cause in causes):
            if started:
                reason = f"nothing more came for {self.timeout_s:g} s"
                return EndpointFailure(StrongInterrupted(self.endpoint, reason), kept)
            return EndpointFailure(StrongTimeout(self.endpoint, self.timeout_s), kept)
        if any(isinstance(cause, self.transport.RemoteProtocolError) for cause in causes):
            if "connection" in reason.lower() or "disconnected" in reason.lower():
                return EndpointFailure(StrongInterrupted(self.endpoint, reason), kept, passing=True)
            return EndpointFailure(StrongGarbled(self.endpoint, f"not HTTP: {reason}"), kept)
        if started or any(isinstance(cause, self.transport.ReadError) for cause in causes):
            return EndpointFailure(StrongInterrupted(self.endpoint, reason), kept, passing=True)
        if self.proxy is not None:
            reason = f"{reason}, by way of the proxy {self.proxy.shown} of {self.proxy.variable}"
        connects = any(isinstance(cause, self.transport.ConnectError) for cause in causes)
        return EndpointFailure(StrongUnreachable(self.endpoint, reason), kept, passing=connects)

    def _clean(self, text: str) -> str:
        """One line of a bearable length, without keys: servers quote what they were sent."""
        text = without(text, self.secrets)
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"

    def _tells(self, error: Exception) -> bool:
        """Whether a traceback of `error` would show a key."""
        if not self.secrets:
            return False
        text = "".join(traceback.format_exception(error))
        return without(text, self.secrets) != text


def complaint_of(error: Exception) -> Complaint | None:
    """What the server said of the request, where that is what went wrong."""
    import openai

    if isinstance(error, ErrorObject):
        return Complaint(error.code or 200, error.message, error.kind)
    if not isinstance(error, openai.APIStatusError):
        return None
    waits = retry_after_s(error.response.headers) is not None
    return Complaint.of(error.status_code, complaint(error), error.body, waits=waits)


def complaint(error: openai.APIStatusError) -> str:
    """What the server said, out of the several forms in which servers say it."""
    body: Any = error.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        body = inner.get("message", inner.get("detail", inner)) if isinstance(inner, Mapping) else inner
    if isinstance(body, list) and all(isinstance(each, Mapping) and "msg" in each for each in body):
        body = "; ".join(_entry(each) for each in body)
    return str(body) if body else error.response.reason_phrase


def _entry(stated: Mapping[str, Any]) -> str:
    """Of a validation, as pydantic and those that write as it does tell it: the field, and what is wrong."""
    loc = stated.get("loc")
    steps = [str(step) for step in loc if step != "body"] if isinstance(loc, list) else []
    return f"{'.'.join(steps)}: {stated['msg']}" if steps else str(stated["msg"])


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """What Retry-After asks for, as a number or a date; OpenAI also sends it in milliseconds."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * scale
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        then = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())


def is_passing(status: int) -> bool:
    return status in (408, 409, 429) or status >= 500


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = inner or error.__cause__ or error.__context__


def _reason(causes: tuple[BaseException, ...]) -> str:
    """The system's own words where it has some: libraries on the way up say only that it failed."""
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLError | socket.gaierror):
            return str(cause.strerror or cause)
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
    return next((str(cause) for cause in reversed(causes) if str(cause)), type(causes[0]).__name__)
