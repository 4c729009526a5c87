"""What the ledger sums up by SQLite is what its records say one by one."""

from __future__ import annotations

import random
import sqlite3

import pytest

from edge_router.chat.events import Usage
from edge_router.config.settings import Config
from edge_router.ledger import Ledger, Record
from edge_router.ledger.record_groups import STEPS
from edge_router.routing.thresholds.prices import Prices
from edge_router.routing.thresholds.replay import replay
from edge_router.routing.thresholds.traffic_summary import TrafficSummary, summarized
from edge_router.routing.thresholds.usage import used_in_all
from edge_router.system.paths import Paths
from edge_router.types import Decision, Reason

PRICED = {"strong.model": "big", "strong.price_in": 2.0, "strong.price_out": 8.0}
ENDPOINT = {"endpoints.near.models": ("m",), "endpoints.near.price_in": 1.0, "endpoints.near.price_out": 0.5}
CONFIG = Config().replace(**PRICED, **ENDPOINT, **{"router.threshold": 0.2973})


def some(count: int, seed: int = 7) -> list[Record]:
    rnd, found = random.Random(seed), []
    for number in range(count):
        score = rnd.choice([rnd.random(), rnd.randrange(STEPS + 1) / STEPS, 0.2973, 0.0, 1.0])
        decision = Decision(
            "strong" if score >= 0.2973 else "weak",
            Reason.SCORE,
            score,
            0.2973,
            rnd.choice(["mf", "mf", "mf", "length"]),
            endpoint=rnd.choice([None, "near", "gone"]),
        )
        if number % 5 == 0:
            other = rnd.choice([Reason.FORCED, Reason.RULE, Reason.SESSION, Reason.CACHED])
            decision = Decision(
                rnd.choice(["weak", "strong"]), other, score, rule="mine" if number % 2 else None
            )
        usage = rnd.choice([Usage(rnd.randrange(1000), rnd.randrange(500)), Usage(3, 0), None])
        error = rnd.choice([None, None, None, "StrongTimeout"])
        found.append(Record(decision, decision.model, usage, error=error, time=1000.0 + number))
    return found


def kept(paths: Paths, records: list[Record]) -> Ledger:
    ledger = Ledger(paths.ledger)
    for record in records:
        assert ledger.record(record) is not None
    return ledger


def above(found: TrafficSummary, threshold: float) -> tuple[int, float]:
    """How many would go away from there on, and for how much, as the page finds it."""
    moved = [each for each in found.bins if each.start >= threshold]
    assert found.fixed[2] is not None
    cost = found.fixed[2] + sum(each.worth or 0.0 for each in moved)
    return found.fixed[1] + sum(each.answers for each in moved), cost


def test_the_sums_are_those_of_usage_and_each_threshold_does_what_replay_says(paths: Paths) -> None:
    records = some(150)
    found = summarized(CONFIG, kept(paths, records))
    prices, own = Prices.highest(CONFIG), Prices.by_endpoint(CONFIG)
    used = used_in_all(records, prices, own)
    assert (found.answers, found.here, found.away) == (used.answers, used.here, used.away)
    assert (found.again, found.errors) == (used.again, used.errors)
    assert found.cost == pytest.approx(used.cost) and found.saved == pytest.approx(used.saved)
    assert found.unpriced == sum(record.usage is None for record in records)
    assert above(found, 0.2973) == (found.away, pytest.approx(found.cost))

    ours = [record for record in records if record.decision.router == "mf"]
    others = [each for each in records if each not in ours and each.decision.reason is not Reason.CACHED]
    fixed = sum(record.decision.model == "strong" for record in others)
    for step in (*range(0, STEPS + 1, 2), 0.2973 * STEPS):
        threshold = step / STEPS
        assert above(found, threshold)[0] == replay(ours, threshold).after.strong + fixed, threshold


def test_without_prices_there_is_no_money_and_without_a_threshold_the_last_one_counts(paths: Paths) -> None:
    empty = summarized(Config(), Ledger(paths.ledger))
    assert (empty.answers, empty.bins, empty.cost, empty.threshold) == (0, (), None, None)
    assert not paths.ledger.exists()
    found = summarized(Config(), kept(paths, some(20)))
    assert found.threshold == 0.2973 and found.saved is None
    assert {each.worth for each in found.bins} == {None}


def test_only_what_is_asked_for_of_rules_models_and_time(paths: Paths) -> None:
    records = some(30)
    ledger = kept(paths, records)
    since = 1000.0 + 20
    found = summarized(CONFIG, ledger, since=since)
    assert found.answers == 10
    told = found.to_dict()
    assert told["answers"] == 10 and sum(each["answers"] for each in told["reasons"]) == 10  # type: ignore[index, attr-defined]
    rules = [r for r in records[20:] if r.decision.rule]
    assert sum(each.answers for each in found.rules) == len(rules) and {
        each.name for each in found.rules
    } <= {"mine"}
    assert sum(each.answers for each in found.models) == 10
    many = [Record(Decision("weak", Reason.FORCED), f"model {number % 30}") for number in range(60)]
    assert len(summarized(CONFIG, kept(paths, many)).models) == 20


def test_prompts_beyond_a_step_of_the_prices_cost_more(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_router.config.listed_prices import PriceStep

    steep = Prices(1.0, 2.0, (PriceStep(1000, 10.0, 20.0),))
    monkeypatch.setattr(Prices, "highest", lambda config, own=False: steep)
    monkeypatch.setattr(Prices, "by_endpoint", lambda config: {})
    sizes = (500, 1000, 1001, 5000)
    records = [Record(Decision("strong", Reason.FORCED), "big", Usage(size, 10)) for size in sizes]
    assert summarized(CONFIG, kept(paths, records)).cost == pytest.approx(
        sum(steep.cost(r.usage) for r in records)
    )  # type: ignore[arg-type]


def test_rows_that_hold_anything_change_no_sum_to_what_is_no_number(paths: Paths) -> None:
    kept(paths, some(10)).close()
    with sqlite3.connect(paths.ledger) as connection:
        connection.execute("UPDATE decisions SET score = 'high', threshold = 1e999 WHERE id = 1")
        connection.execute("UPDATE decisions SET prompt_tokens = 'many', score = 1e999 WHERE id = 2")
        connection.execute("UPDATE decisions SET tier = 'other' WHERE id = 3")
        connection.execute("UPDATE decisions SET time = 9e999 WHERE id = 4")
        connection.execute("UPDATE decisions SET model = x'ff', reason = x'00' WHERE id = 5")
        connection.execute("UPDATE decisions SET score = -1, model = x'ff' WHERE id = 6")
    found = summarized(CONFIG, Ledger(paths.ledger))
    assert found.answers == 7 and sum(each.answers for each in found.models) == 6
    assert found.cost is not None and 0 <= found.cost < 1
