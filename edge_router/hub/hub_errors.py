"""huggingface_hub's errors as ours, in this one place."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from edge_router.catalog import HubSource
from edge_router.errors import EdgeRouterError, WeightsUnavailable
from edge_router.system.disk import as_storage_error
from edge_router.system.network import problems
from edge_router.system.telemetry import load_huggingface_hub

NO_HUB = "what answers is no hub (HF_ENDPOINT, a proxy or a firewall)"
_REFUSED = "Invalid credentials in Authorization header"  # every other 401 is of a repository unseen
_HTTP_PACKAGES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")


def translate(error: Exception, source: HubSource, target: Path) -> EdgeRouterError | None:
    """None for an error that neither the hub nor the way there can cause.

    `target` is the folder into which a person may put the files by hand.
    """
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, WeightsUnavailable):
            return WeightsUnavailable(cause.what, cause.reason, target)
        if isinstance(cause, EdgeRouterError):
            return cause
        if isinstance(cause, OSError):
            storage = as_storage_error(cause, target.parent)
            if storage is not None:
                return storage
    reasons = (_known_reason(cause, source) for cause in chain)
    reason = next((reason for reason in reasons if reason is not None), None)
    unmade = any(isinstance(cause, ImportError | ValueError) for cause in chain)  # no client could be made
    network = any(_is_network(cause) for cause in chain)
    if reason is None and (unmade or network):
        reason = next((str(problem) for problem in problems()), None)
    if reason is None and network:
        reason = f"the hub cannot be reached ({type(chain[-1]).__name__})"
    if reason is None:
        reason = _reason_by_place(chain[-1])
    return None if reason is None else WeightsUnavailable(str(source), reason, target)


def _reason_by_place(error: BaseException) -> str | None:
    """Of an error that says nothing by its type: what it means where it was raised. None for ours."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    module = "" if frame is None else str(frame.tb_frame.f_globals.get("__name__", ""))
    package = module.partition(".")[0]
    if package in _HTTP_PACKAGES:  # proxies and certificates of the environment
        return f"no connection can be made: {error}"
    if package == "huggingface_hub" and isinstance(
        error, TypeError | LookupError | AttributeError | ValueError
    ):
        return NO_HUB
    return None


def _known_reason(error: BaseException, source: HubSource) -> str | None:
    errors = load_huggingface_hub("errors")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "the network is switched off (HF_HUB_OFFLINE)"
    if isinstance(error, errors.HFValidationError):
        return str(error)
    if isinstance(error, errors.FileMetadataError):
        return NO_HUB
    if isinstance(error, errors.HfHubHTTPError):
        return http_reason(error.response.status_code, error.response.headers, source)
    if "Consistency check failed" in str(error):
        return "the connection ended before the file did"
    return None


def http_reason(status: int, headers: Mapping[str, str], source: HubSource) -> str:
    """What an answer of the hub that is no success means."""
    code, message = headers.get("X-Error-Code"), headers.get("X-Error-Message")
    if code == "GatedRepo":
        return "the repository is gated: its owner has to grant access, and a token has to show it"
    if code == "RevisionNotFound":
        return f"the repository has no revision {source.revision}"
    if code == "RepoNotFound" or (status == 401 and message != _REFUSED):
        return "there is no such repository, or it is private and no token opens it"
    if code == "EntryNotFound":
        return f"the hub no longer has a file that it listed (HTTP {status})"
    if status in (401, 403):
        return f"the hub refuses the token (HTTP {status})"
    asked_s = wait_asked_s(headers)
    wait = "" if asked_s is None else f", which asks to wait {asked_s} s"
    if status == 429:
        return f"too many requests for the hub{wait} (HTTP 429)"
    if 300 <= status < 400:
        return f"the hub sends the question round in circles, or nowhere (HTTP {status})"
    return f"the hub answers HTTP {status}{wait}"


def wait_asked_s(headers: Mapping[str, str]) -> int | None:
    """Seconds after which to try again, as an answer's headers ask for; None where they don't."""
    wish = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", wish):
        return int(wish)
    with suppress(ValueError, TypeError, OverflowError):
        then = parsedate_to_datetime(wish)
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
        return max(0, math.ceil((then - datetime.now(UTC)).total_seconds()))
    window = re.search(r"\br=0;\s*t=([0-9]{1,9})\b", headers.get("RateLimit", ""))
    return int(window[1]) if window else None


def _is_network(error: BaseException) -> bool:
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or package in _HTTP_PACKAGES or "Xet" in type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, nearest first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
