"""What was used, by caller and over time."""

from __future__ import annotations

import time

from edge_router.chat.events import Usage
from edge_router.ledger import Record
from edge_router.routing.thresholds.prices import Prices
from edge_router.routing.thresholds.usage import Used, used, used_in_all, used_over_time
from edge_router.types import Decision, Reason

USAGE = Usage(1_000_000, 0)


def record(caller: str | None, model: str = "strong", **fields: object) -> Record:
    decision = Decision(model, Reason.SCORE, caller=caller, **fields)  # type: ignore[arg-type]
    return Record(decision, model, USAGE)


def test_by_the_prices_of_who_answered() -> None:
    records = [
        record("ben", endpoint="cheap"),
        record("anna", endpoint="dear"),
        record("anna", endpoint="gone"),
        record("anna", "weak"),
        record(None),
        Record(Decision("strong", Reason.SCORE, caller="ben"), "big", None, error="StrongTimeout"),
    ]
    prices = {"cheap": Prices(1.0, 0.0), "dear": Prices(7.0, 0.0)}
    found = used(records, Prices(9.0, 0.0), prices)
    assert list(found) == ["anna", "ben", None]
    assert found["anna"] == Used(3, 2, 0, 3_000_000, 0, 2, 16.0, 9.0)
    assert found["ben"] == Used(2, 2, 1, 1_000_000, 0, 2, 1.0, 0.0)
    assert found[None] == Used(1, 1, 0, 1_000_000, 0, 1, 9.0, 0.0)
    assert used(records, None)["ben"].cost is None and used([], None) == {}


def test_over_time_and_what_was_saved() -> None:
    noon = time.mktime((2026, 11, 29, 12, 0, 0, 0, 0, -1))
    again = Decision("strong", Reason.CACHED)
    records = [
        Record(Decision("weak", Reason.SCORE), "weak", USAGE, time=noon),
        Record(Decision("weak", Reason.SCORE), "weak", USAGE, time=noon, error="EngineFailed"),
        Record(again, "big", USAGE, time=noon + 86_400),
        Record(Decision("strong", Reason.SCORE), "big", USAGE, time=noon + 2 * 86_400),
    ]
    days = used_over_time(records, Prices(2.0, 0.0), by="day")
    assert list(days) == ["2026-11-29", "2026-11-30", "2026-12-01"]
    assert days["2026-11-29"] == Used(2, 0, 1, 2_000_000, 0, 0, 0.0, 2.0)
    assert days["2026-11-30"] == Used(1, 1, 0, 0, 1, 0, 0.0, 2.0)
    assert list(used_over_time(records, None, by="month")) == ["2026-11", "2026-12"]
    total = used_in_all(records, Prices(2.0, 0.0))
    assert (total.here, total.answers, total.saved, total.cost) == (3, 4, 4.0, 2.0)
