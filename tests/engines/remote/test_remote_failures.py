from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from edge_router.engines.remote.deadlines import RETRIES_S
from edge_router.engines.remote.failures import EndpointFailure, complaint, retry_after_s
from edge_router.errors import StrongError

NOW = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Wed, 01 May 2024 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 01 May 2024 12:00:30 -0000"}, 30.0),
        ({"retry-after": "Wed, 01 May 2024 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after_s(headers, NOW) == seconds


def waits(attempt, **fields):
    return EndpointFailure(StrongError("", ""), None, **fields).wait_s(attempt)


def test_what_does_not_pass_is_not_waited_for():
    assert waits(0) is None
    assert waits(0, retry_after_s=1.0) is None


def test_the_wait_doubles_up_to_a_bound():
    for attempt, full in [(0, 0.25), (1, 0.5), (2, 1.0), (20, RETRIES_S)]:
        for _ in range(20):
            assert full * 0.75 <= waits(attempt, passing=True) <= full


def test_a_servers_wish_is_kept_or_declined():
    assert waits(5, passing=True, retry_after_s=0.1) == 0.1
    assert waits(0, passing=True, retry_after_s=0.0) == 0.0
    assert waits(0, passing=True, retry_after_s=RETRIES_S) == RETRIES_S
    assert waits(0, passing=True, retry_after_s=RETRIES_S + 1) is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"message": "inner"}, "inner"),
        ({"error": {"message": "outer"}}, "outer"),
        ({"error": "plain"}, "plain"),
        ({"detail": "vLLM"}, "vLLM"),
        ({"detail": [{"loc": ["body", "state", 0], "msg": "no"}, {"msg": "nor"}]}, "state.0: no; nor"),
        ({"detail": ["odd"]}, "['odd']"),
        ("text", "text"),
        ("", "Bad Gateway"),
        (None, "Bad Gateway"),
    ],
)
def test_the_forms_of_a_complaint(body, text):
    assert (
        complaint(SimpleNamespace(body=body, response=SimpleNamespace(reason_phrase="Bad Gateway"))) == text
    )
