"""The settings of `[callers.NAME]`: one of those who may ask, each with a key of his own.

What such a table does not say, the other settings say. The key itself is never in it: only the name of the
variable that holds it, or a hash that is of no use to whoever reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from edge_router.records import dataclass

CALLERS = "callers"
_RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]", re.IGNORECASE)  # no names of folders on Windows
HASH = re.compile(r"sha256:[0-9a-f]{32}:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CallerConfig:
    """One of them. Sums are in the prices' money."""

    name: str
    api_key_env: str | None = None  # the variable that holds its key
    key_hash: str | None = None  # of its key, as `edge-router keys new NAME` writes it
    model: str | None = None  # what it gets where it asks for auto; None: auto
    models: tuple[str, ...] = ()  # what it may ask for and be answered by; (): everything
    threshold: float | None = None  # in the place of router.threshold
    strong_share: float | None = None  # in the place of router.strong_share
    monthly_budget: float | None = None  # for the strong model; raises the threshold to last the month
    daily_budget: float | None = None  # the same for a day
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # of prompts and answers
    concurrency: int | None = None  # answers at once

    @property
    def is_budgeted(self) -> bool:
        """Whether its money is counted."""
        return self.monthly_budget is not None or self.daily_budget is not None


def check_callers(
    callers: Iterable[CallerConfig],
    require: Callable[[str, bool, str], None],
    *,
    budgeted: bool,
    shared: bool,
    priced: bool,
) -> None:
    """Calls `require` with a key, whether what it says can be, and what it must be.

    `budgeted`: there is a budget for all together; `shared`: a strong share is held for all; `priced`: it is
    known what the strong model costs.
    """
    hashes, names = set[str](), set[str]()
    for each in callers:
        at = f"{CALLERS}.{each.name}"
        named = re.fullmatch(r"[A-Za-z0-9_-]{1,40}", each.name) is not None
        named = named and _RESERVED.fullmatch(each.name) is None
        plain = (
            "a caller's name is made of letters, digits, - and _, and none of Windows's devices, such as con"
        )
        require(f"{at}.models", named, plain)
        other = each.name.lower() not in names  # each has a folder, which on many systems is one for both
        require(f"{at}.models", other, "differs from another caller's name only in capitals")
        names.add(each.name.lower())
        hashed = each.key_hash is None or HASH.fullmatch(each.key_hash) is not None
        require(f"{at}.key_hash", hashed, f"must be what `edge-router keys new {each.name}` writes there")
        require(f"{at}.key_hash", each.key_hash not in hashes, "is another caller's, too")
        hashes |= {each.key_hash} if each.key_hash is not None else set()
        require(f"{at}.models", all(each.models), "must be names of models")
        for name in ("threshold", "strong_share"):
            value = getattr(each, name)
            require(f"{at}.{name}", value is None or 0 <= value <= 1, "must be between 0 and 1")
        for name in ("monthly_budget", "daily_budget"):
            value = getattr(each, name)
            require(f"{at}.{name}", value is None or 0 <= value < float("inf"), "must be 0 or more")
            known = value is None or priced
            require(f"{at}.{name}", known, "needs the strong model's prices, price_in and price_out")
        for name in ("requests_per_minute", "tokens_per_minute", "concurrency"):
            value = getattr(each, name)
            require(f"{at}.{name}", value is None or value >= 1, "must be at least 1")
        free = not (each.is_budgeted and shared and each.threshold is None)
        reason = "moves the threshold, so router.strong_share must not be set, or a threshold of its own"
        budget = "daily_budget" if each.monthly_budget is None else "monthly_budget"
        require(f"{at}.{budget}", free, reason)
        moved = each.threshold is not None or each.is_budgeted or budgeted
        alone = each.strong_share is None or not moved
        require(f"{at}.strong_share", alone, "moves the threshold, which a threshold or a budget does, too")
