"""What each caller has used."""

from __future__ import annotations

from edge_router.callers.usage import Used, used
from edge_router.chat.events import Usage
from edge_router.ledger import Record
from edge_router.routing.thresholds.prices import Prices
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
    assert found["anna"] == Used(3, 2, 0, 3_000_000, 16.0)
    assert found["ben"] == Used(2, 2, 1, 1_000_000, 1.0)
    assert found[None] == Used(1, 1, 0, 1_000_000, 9.0)
    assert used(records, None)["ben"].cost is None and used([], None) == {}
