"""The strong engine against endpoints that never end, never begin, or point elsewhere."""

import gzip
import json
import threading
import time
import tracemalloc
import zlib

import pytest

from edge_router.chat.events import ForeignDelta, TextDelta
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import answered
from edge_router.engines.remote import transport
from edge_router.engines.remote.bounds import LARGEST_ANSWER, LARGEST_ERROR
from edge_router.errors import (
    StrongError,
    StrongFailed,
    StrongGarbled,
    StrongInterrupted,
    StrongRateLimited,
    StrongRedirected,
    StrongTimeout,
)

pytestmark = pytest.mark.integration  # moves many megabytes

LIMIT = 64 * 2**20  # of memory, for any answer
OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
STREAM = OK + b"content-type: text/event-stream\r\n\r\n"
JSON = OK + b"content-type: application/json\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def refusal(status):
    return b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n" % status


def event(delta, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": None, **more}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def stop():
    return event({}, finish_reason="stop") + DONE


def bomb(data, *, start=b"", form=zlib.MAX_WBITS | 16):
    """Megabytes in a few thousand bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, form)
    block = data * max(1, 2**16 // len(data))
    return packer.compress(start) + b"".join(packer.compress(block) for _ in range(4096)) + packer.flush()


def packed(head, coding=b"gzip"):
    return head.replace(b"\r\n\r\n", b"\r\ncontent-encoding: %s\r\n\r\n" % coding)


def ask(**fields):
    return ChatRequest((Message("user", "hi"),), **fields)


def answer(engine, **fields):
    """The text, the last event and the error of one question."""
    shown, last = [], None
    try:
        for last in answered(engine, ask(**fields), threading.Event()):
            shown.append(last.text if isinstance(last, TextDelta) else "")
    except StrongError as error:
        return "".join(shown), last, error
    return "".join(shown), last, None


def endless(*parts):
    """Writes all but the last part once, then the last for ever, in writes of a bearable size."""
    *start, more = parts

    def handler(write, number):
        write(b"".join(start))
        block = more * max(1, 2**14 // len(more))
        while True:
            write(block)

    return handler


def once(*parts):
    """Bytes, or what makes them: some take half a second, which who only collects tests need not wait for."""

    def handler(write, number):
        for part in parts:
            write(part() if callable(part) else part)

    return handler


ENDLESS = {
    "whole answer": endless(JSON, b'{"id":"', b"x"),
    "whole answer of brackets": endless(JSON, b'{"id":[', b"[],"),
    "event": endless(STREAM, b"data: ", b"x"),
    "event of lines": endless(STREAM, b"data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"),
    "event of empty lines": endless(STREAM, b"data:\n"),
    "comment": endless(STREAM, b": ", b"x"),
    "comments": endless(STREAM, b": ping\n\n"),
    "blank lines": endless(STREAM, b"\n"),
    "other fields": endless(STREAM, b"event: ping\nid: 7\n\n"),
    "empty deltas": endless(STREAM, event({"content": ""})),
    "empty choices": endless(STREAM, b'data: {"choices": []}\n\n'),
    "head": endless(b"HTTP/1.1 200 OK\r\nx: ", b"y"),
    "heads": endless(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
    "first line": endless(b"HTTP/1.1 200 ", b"y"),
    "no HTTP": endless(b"y"),
    "type that is none": endless(OK, b"content-type: text/plain\r\n\r\n", b"x"),
    "packed whole answer": once(packed(JSON), lambda: bomb(b"x", start=b'{"id":"')),
    "packed event": once(packed(STREAM), lambda: bomb(b"x", start=b"data: ")),
    "packed comments": once(packed(STREAM), lambda: bomb(b": ping\n\n")),
    "packed, the other way": once(
        packed(STREAM, b"deflate"), lambda: bomb(b": ping\n\n", form=zlib.MAX_WBITS)
    ),
    "packed twice": once(packed(STREAM, b"gzip, gzip"), lambda: gzip.compress(bomb(b"x"))),
    "packed in an unknown way": endless(packed(STREAM, b"br"), b"x"),
    "packed, but not": endless(packed(STREAM), b"x"),
}


@pytest.fixture
def peak():
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


SLOW = {"blank lines", "empty choices", "packed, the other way"}  # each has a near relative here


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] * (k in SLOW)) for k in ENDLESS])
def test_what_never_ends_is_an_error_of_few_bytes(make, endpoint, peak, kind):
    place = endpoint(ENDLESS[kind])
    shown, _, error = answer(make(place.url, timeout_s=60))
    assert isinstance(error, StrongGarbled) and shown == ""
    assert peak() < LIMIT and place.sent < 24 * 2**20
    assert len(place.heads) == 1


@pytest.mark.parametrize("status", [b"400 No", b"404 No", b"500 No", b"503 No"])
@pytest.mark.parametrize("pack", [False, True])
def test_a_refusal_counts_though_its_body_never_ends(make, endpoint, peak, status, pack):
    start = b'{"error": {"message": "so sorry'
    handler = endless(refusal(status), start, b"x")
    if pack:
        handler = once(packed(refusal(status)), lambda: bomb(b"x", start=start))
    place = endpoint(handler)
    _, _, error = answer(make(place.url, timeout_s=60))
    assert isinstance(error, StrongFailed) and error.status == int(status[:3])
    assert "so sorry" in error.message and len(error.message) < 400
    assert peak() < LIMIT and (pack or place.sent < 100 * LARGEST_ERROR)


@pytest.mark.parametrize(
    "piece",
    [
        {"content": "x "},
        {"content": "Wort"},
        {"content": "字"},
        {"content": "word " * 1000},
        {"reasoning_content": "word " * 1000},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": '}}]},
    ],
    ids=str,
)
@pytest.mark.parametrize("max_tokens", [1, 5, 40])
def test_tokens_beyond_those_asked_for_end_the_answer(make, endpoint, piece, max_tokens):
    place = endpoint(endless(STREAM, event(piece)))
    shown, last, error = answer(make(place.url, timeout_s=60), max_tokens=max_tokens)
    assert error is None and last.reason == "length"
    assert len(shown) <= 32 * max_tokens + 4096 + 5000


@pytest.mark.parametrize("letters", [1, 4, 60])
@pytest.mark.parametrize("max_tokens", [1, 100, 2000])
def test_no_answer_within_its_limit_is_cut(make, endpoint, letters, max_tokens):
    """Whether it comes letter by letter or in large pieces: four letters are a token, as a rule."""
    text = "word" * max_tokens
    pieces = [event({"content": text[at : at + letters]}) for at in range(0, len(text), letters)]
    place = endpoint(once(STREAM, *pieces, stop()))
    shown, last, error = answer(make(place.url, timeout_s=60), max_tokens=max_tokens)
    assert error is None and shown == text and last.reason == "stop"


def test_an_answer_without_a_limit_is_not_kept_for_ever(make, endpoint, peak):
    place = endpoint(endless(STREAM, event({"content": "word " * 10_000})))
    shown, _, error = answer(make(place.url, timeout_s=60))
    assert isinstance(error, StrongGarbled) and "32 MiB" in str(error)
    assert len(shown) <= LARGEST_ANSWER


def test_an_endpoint_that_packs_unasked_is_understood(make, endpoint):
    body = b": hello\n\n" + event({"content": "packed"}) + stop()
    for coding, data in ((b"gzip", gzip.compress(body)), (b"deflate", zlib.compress(body))):
        pieces = [data[at : at + 7] for at in range(0, len(data), 7)]
        place = endpoint(once(packed(STREAM, coding), *pieces))
        assert answer(make(place.url, timeout_s=60))[0] == "packed"
        assert b"accept-encoding: identity" in place.heads[0].lower()


def test_a_reader_that_does_not_read_pauses_the_endpoint(make, endpoint):
    place = endpoint(endless(STREAM, event({"content": "word"})))
    deltas = answered(make(place.url, timeout_s=0.5), ask(), threading.Event())
    next(deltas)
    before = -1
    while place.sent != before:  # until the buffers on the way are full
        before = place.sent
        time.sleep(0.2)
    assert before < 16 * 2**20
    time.sleep(0.6)  # longer than the endpoint may be silent: this time is the reader's own
    assert place.sent == before
    for _ in range(2000):
        assert next(deltas).text == "word"
    deltas.close()


# ---- deadlines


def drip(*parts):
    """Writes all but the last part once, then the last one every twentieth of a second."""
    *start, more = parts

    def handler(write, number):
        write(b"".join(start))
        while True:
            write(more)
            time.sleep(0.05)

    return handler


DRIPS = {
    "nothing": drip(b""),
    "comments": drip(STREAM, b": ping\n\n"),
    "empty deltas": drip(STREAM, event({"content": ""})),
    "roles": drip(STREAM, event({"role": "assistant"})),
    "fields of its own": drip(STREAM, event({"role": "assistant", "content": "", "x_queue": {"place": 3}})),
    "log probabilities": drip(STREAM, event({}, logprobs={"content": [], "refusal": None})),
    "tool calls of nothing": drip(STREAM, event({"tool_calls": [{"index": 0, "function": {}}, {}, None]})),
    "other choices": drip(STREAM, event({"content": "x"}, index=1)),
    "blank lines": drip(STREAM, b"\n"),
    "bytes of an event": drip(STREAM, b"data: ", b"x"),
    "1xx": drip(b"HTTP/1.1 102 Processing\r\n\r\n"),
    "early hints": drip(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"),
    "first line": drip(b"HTTP/1.1 200 ", b"y"),
    "head": drip(b"HTTP/1.1 200 OK\r\nx: ", b"y"),
    "whole answer": drip(JSON, b" "),
    "chunks": drip(STREAM.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n"), b"1\r\n:\r\n"),
}


@pytest.mark.parametrize("kind", DRIPS)
def test_what_only_keeps_the_connection_is_no_token(make, endpoint, kind):
    """Nor is an answer begun with it: another model may still step in."""
    place = endpoint(DRIPS[kind])
    _, last, error = answer(make(place.url, timeout_s=0.3, max_retries=3))
    assert isinstance(error, StrongTimeout) and len(place.heads) == 1 and last is None
    assert (error.seconds, error.setting) == (0.3, "strong.timeout_s")


@pytest.mark.parametrize("more", [[event({"content": "hi"})], []])
def test_fields_before_the_first_word_are_not_lost(make, endpoint, more):
    place = endpoint(
        once(STREAM, event({"x_a": "1"}), event({"x_a": "2"}), *more, event({}, finish_reason="length"))
    )
    deltas = list(answered(make(place.url, timeout_s=60), ask(), threading.Event()))
    fields = [event.fields for event in deltas if isinstance(event, ForeignDelta)]
    assert fields == [{"x_a": "1"}, {"x_a": "2"}] and len(deltas) == 2 + len(more) + 1
    assert deltas[-1].reason == "length"


@pytest.mark.parametrize("kind", ["comments", "1xx", "head", "whole answer"])
def test_the_first_token_has_a_deadline_of_its_own(make, endpoint, kind):
    place = endpoint(DRIPS[kind])
    _, _, error = answer(make(place.url, timeout_s=60, first_token_timeout_s=0.3))
    assert isinstance(error, StrongTimeout)
    assert (error.seconds, error.setting) == (0.3, "strong.first_token_timeout_s")


def test_the_first_token_may_take_longer_than_the_next_one(make, endpoint):
    def handler(write, number):
        write(STREAM)
        time.sleep(0.6)
        write(event({"content": "late"}) + stop())

    assert answer(make(endpoint(handler).url, timeout_s=0.2, first_token_timeout_s=30))[0] == "late"


@pytest.mark.parametrize("status", [b"500 Oops", b"429 Wait", b"404 No"])
def test_a_refusal_does_not_wait_for_its_body(make, endpoint, status, monkeypatch):
    monkeypatch.setattr(transport, "ERROR_BODY_S", 0.1)
    head = refusal(status).replace(b"\r\n\r\n", b"\r\ncontent-length: 900\r\n\r\n")
    _, _, error = answer(make(endpoint(drip(head, b"z")).url, timeout_s=60))
    assert isinstance(error, StrongFailed | StrongRateLimited)


@pytest.mark.parametrize("more", [event({"content": ""}), b": ping\n\n"])
def test_silence_in_the_middle(make, endpoint, more):
    place = endpoint(drip(STREAM, event({"content": "one"}), more))
    shown, _, error = answer(make(place.url, timeout_s=0.3))
    assert shown == "one" and isinstance(error, StrongInterrupted)
    assert error.reason.startswith("nothing more came for 0.3 s")


def test_a_whole_answer_has_a_deadline(make, endpoint):
    place = endpoint(drip(STREAM, event({"content": "x"})))
    shown, _, error = answer(make(place.url, timeout_s=60, total_timeout_s=0.5))
    assert shown and isinstance(error, StrongInterrupted)
    assert error.reason == "it had not ended after 0.5 s, as strong.total_timeout_s says"


@pytest.mark.parametrize("after", [b"", b"retry-after: 7\r\n"])
def test_no_try_begins_after_the_deadline_for_the_first_token(make, endpoint, after):
    place = endpoint(once(b"HTTP/1.1 429 Wait\r\ncontent-length: 0\r\n" + after + b"\r\n"))
    begin = time.monotonic()
    _, _, error = answer(make(place.url, max_retries=20, first_token_timeout_s=0.4))
    assert isinstance(error, StrongRateLimited) and time.monotonic() - begin < 5
    assert len(place.heads) <= 3


# ---- redirects


def moved(status, location):
    return once(
        b"HTTP/1.1 %s Moved\r\nlocation: %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        % (status, location)
    )


def test_a_redirect_within_the_origin_is_followed(make, endpoint):
    def handler(write, number):
        if number == 1:
            moved(b"307", b"/elsewhere?x=1")(write, number)
        else:
            once(STREAM, event({"content": "there"}), stop())(write, number)

    place = endpoint(handler)
    assert answer(make(place.url, timeout_s=60))[0] == "there"
    assert place.heads[1].startswith(b"POST /elsewhere?x=1 ")


@pytest.mark.parametrize("status", [b"301", b"302", b"303", b"307", b"308"])
@pytest.mark.parametrize(
    "target", ["http://localhost:PORT/v1", "http://127.0.0.1:1/v1", "https://127.0.0.1:PORT/v1"]
)
def test_the_prompt_follows_to_no_other_origin(make, endpoint, status, target):
    place = endpoint(lambda write, number: moved(status, target.encode())(write, number))
    target = target.replace("PORT", place.address.rpartition(":")[2])
    _, _, error = answer(make(place.url, timeout_s=60, max_retries=3))
    assert isinstance(error, StrongRedirected) and error.target == target
    assert error.status == int(status) and len(place.heads) == 1


@pytest.mark.parametrize("status", [b"301", b"302", b"303"])
def test_nor_where_it_would_become_another_question(make, endpoint, status):
    place = endpoint(moved(status, b"/v2"))
    assert isinstance(answer(make(place.url, timeout_s=60))[2], StrongRedirected)
    assert len(place.heads) == 1


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (b"http://me:pass-word@example.org/a?code=secret-query#f", "http://example.org/a"),
        (b"//example.org/b", "http://example.org/b"),
        (b"http://[::1/", "what is no address"),
        (b"ftp://example.org/", "ftp://example.org/"),
        (b"mailto:somebody", "mailto:somebody"),
    ],
)
def test_a_target_is_shown_without_what_is_secret_in_it(make, endpoint, location, shown):
    _, _, error = answer(make(endpoint(moved(b"307", location)).url, timeout_s=60))
    assert isinstance(error, StrongRedirected) and error.target == shown


@pytest.mark.parametrize(
    "trick", [b"http:\\\\localhost:PORT\\x", b"\\\\localhost:PORT", b"http://127.0.0.1:PORT@localhost:PORT/"]
)
def test_no_spelling_leads_elsewhere(make, endpoint, trick):
    other = endpoint(once(STREAM, event({"content": "elsewhere"}), stop()))
    port = other.address.rpartition(":")[2].encode()
    place = endpoint(moved(b"307", trick.replace(b"PORT", port)))
    answer(make(place.url, timeout_s=60))
    assert other.heads == []


def test_a_circle_within_the_origin_ends(make, endpoint):
    place = endpoint(moved(b"307", b"/again"))
    assert isinstance(answer(make(place.url, timeout_s=60))[2], StrongError)
    assert len(place.heads) < 30


def test_cookies_are_not_sent_back(make, endpoint):
    head = STREAM.replace(b"\r\n\r\n", b"\r\nset-cookie: who=you; path=/\r\n\r\n")
    place = endpoint(once(head, event({"content": "x"}), stop()))
    engine = make(place.url, timeout_s=60)
    answer(engine)
    answer(engine)
    assert len(place.heads) == 2 and b"cookie" not in place.heads[1].lower()
