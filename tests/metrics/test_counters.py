import threading

from edge_router.chat.events import Usage
from edge_router.ledger import Record
from edge_router.metrics.counters import Gauge, Histogram, Metrics
from edge_router.types import Decision, Reason, Timings


def lines(metrics):
    """Name and labels of every sample to its value."""
    samples = [line.rpartition(" ") for line in metrics.render().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in samples}


def test_nothing_yet_is_valid_text():
    text = Metrics().render()
    assert text.endswith("\n")
    assert all(line.startswith(("# HELP ", "# TYPE ")) for line in text.splitlines())


def test_what_is_counted():
    metrics = Metrics()
    weak = Decision("weak", Reason.SCORE, 0.1, 0.5, "mf")
    metrics.record(Record(weak, "small", Usage(10, 5, 3), Timings(2.0, 40.0, 300.0)))
    metrics.record(Record(weak, "small", Usage(1, 1), Timings(2.0, 40.0, 300.0)))
    metrics.record(Record(Decision("strong", Reason.FORCED), "big", error="StrongTimeout"))
    found = lines(metrics)
    assert found['edge_router_requests_total{tier="weak",reason="score"}'] == 2
    assert found['edge_router_requests_total{tier="strong",reason="forced"}'] == 1
    assert found['edge_router_failures_total{tier="strong",error="StrongTimeout"}'] == 1
    assert found['edge_router_tokens_total{tier="weak",kind="prompt"}'] == 11
    assert found['edge_router_tokens_total{tier="weak",kind="completion"}'] == 6
    assert found['edge_router_tokens_total{tier="weak",kind="cached"}'] == 3
    assert found['edge_router_score_seconds_sum{router="mf"}'] == 0.004
    assert found['edge_router_first_token_seconds_count{tier="weak"}'] == 2
    assert found['edge_router_answer_seconds_bucket{tier="weak",le="0.25"}'] == 0
    assert found['edge_router_answer_seconds_bucket{tier="weak",le="0.5"}'] == 2
    assert found['edge_router_answer_seconds_bucket{tier="weak",le="+Inf"}'] == 2
    assert not any("strong" in name for name in found if "first_token" in name)


def test_a_bucket_holds_its_bound():
    histogram = Histogram("h", "", (), (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        histogram.add((), value)
    assert list(histogram.lines()) == [
        'h_bucket{le="1"} 2',
        'h_bucket{le="2"} 4',
        'h_bucket{le="+Inf"} 5',
        "h_sum{} 8",
        "h_count{} 5",
    ]


def test_labels_are_escaped():
    metrics = Metrics()
    metrics.record(
        Record(Decision("weak", Reason.SCORE, router='a"b\\c\nd'), "m", timings=Timings(score_ms=1.0))
    )
    assert 'edge_router_score_seconds_count{router="a\\"b\\\\c\\nd"} 1' in metrics.render().splitlines()


def test_threads_lose_nothing():
    metrics, record = Metrics(), Record(Decision("weak", Reason.SCORE), "m")

    def work():
        for _ in range(500):
            metrics.record(record)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines(metrics)['edge_router_requests_total{tier="weak",reason="score"}'] == 2000


def test_values_are_those_that_are_rendered() -> None:
    metrics = Metrics()
    metrics.add(Gauge("held", "What is held.", ("part",), lambda: [(("weights",), 7.5)]))
    metrics.refused("anna", "RateLimited")
    found = metrics.values()
    assert found["held"] == [(("weights",), 7.5)]
    assert found["edge_router_caller_refusals_total"] == [(("anna", "RateLimited"), 1)]
    assert found["edge_router_requests_total"] == []
