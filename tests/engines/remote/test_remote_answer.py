import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.engines.remote import answer
from edge_router.engines.remote.answer import AnswerReader, ErrorObject, EventDecoder, Garbled
from edge_router.types import Delta, TokenLogprob, Usage


def chunk(delta=None, finish=None, **more):
    return json.dumps({"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **more})


def read(*events):
    reader = AnswerReader()
    deltas = [delta for delta in map(reader.read, events) if delta is not None]
    return reader, deltas


# ---- events


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)),
    st.data(),
)
def test_events_survive_any_cutting_of_the_bytes(texts, data):
    wire = "".join(f": note\r\nevent: x\ndata: {text}\r\n\r\n" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)))))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    decoder = EventDecoder()
    assert [event for piece in pieces for event in decoder.feed(piece)] == texts


def test_data_of_several_lines_is_one_event_and_an_unfinished_one_is_none():
    assert list(EventDecoder().feed(b"data: a\ndata:b\n\n\ndata: c\n")) == ["a\nb"]


def test_a_line_without_end_is_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr(answer, "LARGEST_LINE", 10)
    decoder = EventDecoder()
    assert list(decoder.feed(b"data: 1")) == []
    with pytest.raises(Garbled, match="10 bytes"):
        list(decoder.feed(b"23456"))


def test_bytes_that_are_not_text():
    with pytest.raises(Garbled, match="UTF-8"):
        list(EventDecoder().feed(b"data: \xff\n\n"))


# ---- answers


def test_texts_then_the_end_with_reason_and_usage():
    reader, deltas = read(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk(finish="length"),
        json.dumps(
            {
                "choices": [],
                "usage": {
                    "prompt_tokens": 5,
                    "completion_tokens": 2,
                    "prompt_tokens_details": {"cached_tokens": 4},
                },
            }
        ),
        "[DONE]",
    )
    assert deltas == [Delta("Hel"), Delta("lo")]
    assert reader.done and reader.complete
    assert reader.finish() == Delta(finish_reason="length", usage=Usage(5, 2, 4))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("end_turn", "stop"),
    ],
)
def test_finish_reasons(theirs, ours):
    assert read(chunk(finish=theirs))[0].finish().finish_reason == ours


def test_complete_only_with_a_finish_reason_or_done():
    assert not read(chunk({"content": "x"}))[0].complete
    assert read(chunk(finish="stop"))[0].complete
    reader, _ = read(chunk({"tool_calls": [{"id": "1"}]}), "[DONE]")
    assert reader.complete and reader.finish().finish_reason == "tool_calls"


def test_tool_calls_pass_as_they_are_and_get_an_index():
    _, deltas = read(chunk({"tool_calls": [{"index": 3, "id": "a"}, {"id": "b"}]}))
    assert deltas[0].tool_calls == ({"index": 3, "id": "a"}, {"index": 1, "id": "b"})
    _, deltas = read(chunk({"function_call": {"name": "f", "arguments": "{}"}}))
    assert deltas[0].tool_calls == (
        {"index": 0, "type": "function", "function": {"name": "f", "arguments": "{}"}},
    )


def test_a_refusal_and_parts_are_text():
    _, deltas = read(chunk({"content": None, "refusal": "I can't."}))
    assert deltas == [Delta("I can't.")]
    _, deltas = read(chunk({"content": [{"type": "text", "text": "a"}, {"type": "x"}, {"text": "b"}]}))
    assert deltas == [Delta("ab")]


def test_logprobs_of_chat():
    top = {"token": "no", "logprob": -2, "bytes": [110, 111]}
    entry = {"token": "ja", "logprob": -0.5, "bytes": None, "top_logprobs": [top]}
    event = {"choices": [{"delta": {"content": "ja"}, "logprobs": {"content": [entry]}}]}
    _, deltas = read(json.dumps(event))
    assert deltas[0].logprobs == (TokenLogprob("ja", -0.5, b"ja", (TokenLogprob("no", -2.0, b"no"),)),)


def test_logprobs_of_completions():
    logprobs = {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [{"b": -3}]}
    _, deltas = read(json.dumps({"choices": [{"text": "a", "logprobs": logprobs}]}))
    assert deltas == [Delta("a", logprobs=(TokenLogprob("a", -1.0, b"a", (TokenLogprob("b", -3.0, b"b"),)),))]
    _, deltas = read(json.dumps({"choices": [{"text": "a", "logprobs": None}]}))
    assert deltas == [Delta("a")]


def test_a_whole_answer():
    reader = AnswerReader()
    message = {"role": "assistant", "content": "Hi", "tool_calls": [{"id": "1"}]}
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    assert reader.read_whole(json.dumps(body).encode()) == Delta("Hi", tool_calls=({"index": 0, "id": "1"},))
    assert reader.finish() == Delta(finish_reason="stop", usage=Usage(1, 2))


@pytest.mark.parametrize(
    "usage",
    [7, {}, {"prompt_tokens": -1, "completion_tokens": 1}, {"prompt_tokens": 10**30, "completion_tokens": 1}],
)
def test_usage_that_makes_no_sense_is_left_out(usage):
    assert read(chunk(usage=usage))[0].finish().usage is None


def test_other_choices_and_chunks_of_usage_alone_are_passed_over():
    _, deltas = read(
        json.dumps({"choices": [{"index": 1, "delta": {"content": "second"}}]}),
        json.dumps({"usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
    )
    assert deltas == []


@pytest.mark.parametrize(
    "event",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "7",
        "{}",
        '{"choices": {}}',
        '{"choices": [7]}',
        '{"choices": [{"delta": "x"}]}',
        '{"choices": [{"delta": {"content": 7}}]}',
        '{"choices": [{"delta": {"content": [7]}}]}',
        '{"choices": [{"delta": {"tool_calls": {"a": 1}}}]}',
        '{"choices": [{"delta": {"tool_calls": [7]}}]}',
        '{"choices": [{"delta": {}, "logprobs": {"content": [{}]}}]}',
        '{"choices": [{"delta": {}, "logprobs": {"content": 7}}]}',
        '{"choices": [{"text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": []}}]}',
        '{"choices": [{"text": 7}]}',
        '{"choices": [{"text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": [1%s]}}]}' % ("0" * 400),
    ],
)
def test_what_is_not_their_format(event):
    with pytest.raises(Garbled):
        AnswerReader().read(event)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "text",
                    "content",
                    "message",
                    "logprobs",
                    "usage",
                    "error",
                    "index",
                    "finish_reason",
                    "tool_calls",
                    "code",
                    "top_logprobs",
                    "tokens",
                    "token_logprobs",
                    "bytes",
                    "token",
                    "logprob",
                    "function_call",
                    "object",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_json_at_all_leads_to_another_error(value):
    reader = AnswerReader()
    try:
        delta = reader.read(json.dumps(value))
    except (Garbled, ErrorObject):
        return
    assert delta is None or isinstance(delta, Delta)
    assert reader.finish().finish_reason in ("stop", "length", "tool_calls", "content_filter")


@pytest.mark.parametrize(
    ("event", "message", "code"),
    [
        ({"error": {"message": "overloaded", "code": 529}}, "overloaded", 529),
        ({"error": {"message": "odd", "code": "rate_limit"}}, "odd", None),
        ({"error": "broken"}, "broken", None),
        ({"object": "error", "message": "vLLM's", "code": 400}, "vLLM's", 400),
        ({"choices": [{"delta": {}, "finish_reason": "error"}]}, "the model failed", None),
    ],
)
def test_errors_in_place_of_a_piece(event, message, code):
    with pytest.raises(ErrorObject) as caught:
        AnswerReader().read(json.dumps(event))
    assert (caught.value.message, caught.value.code) == (message, code)
