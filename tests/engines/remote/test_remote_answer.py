import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.chat.events import (
    Finished,
    ForeignDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.message import Reasoning, Text
from edge_router.chat.reply import collect
from edge_router.engines.remote.answer import AnswerReader
from edge_router.engines.remote.event_stream import EventDecoder
from edge_router.engines.remote.outcomes import EmptyAnswer, ErrorObject, Garbled, Unfinished
from edge_router.surfaces.base import Head
from edge_router.surfaces.openai.replies import ChunkMaker, completion
from edge_router.surfaces.openai.surface import OpenAICompletions
from edge_router.surfaces.wire import dumps
from edge_router.types import Decision, Reason

HEAD = Head("1", 7, "big", Decision("strong", Reason.FORCED))


def chunk(delta=None, finish=None, **more):
    return json.dumps({"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **more})


def read(*events):
    reader = AnswerReader()
    deltas = [event for data in events for event in reader.read(data)]
    return reader, deltas


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
    assert deltas == [TextDelta("Hel"), TextDelta("lo")]
    assert reader.done and reader.complete
    assert reader.finish() == [Finished("length", usage=Usage(5, 2, 4))]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("STOP", "stop"),
        ("eos_token", "stop"),
        ("MAX_TOKENS", "length"),
        ("FinishReason.MAX_TOKENS", "length"),
        ("max-output-tokens", "length"),
        ("tool_use", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("refusal", "content_filter"),
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
    assert read(chunk(finish=theirs))[0].finish()[-1].reason == ours


def test_which_stop_string_was_met_is_known_where_it_was_cut_here_or_is_told():
    """By vLLM as `stop_reason`, by SGLang as `matched_stop`; a token's number or another word says nothing."""
    for name, told, known in (
        ("stop_reason", "END", "END"),
        ("matched_stop", "END", "END"),
        ("stop_reason", "end_turn", None),
        ("matched_stop", 2, None),
        ("stop_reason", None, None),
    ):
        reader = AnswerReader(stops=("END",), cuts=False)
        reader.read(json.dumps({"choices": [{"delta": {}, "finish_reason": "stop", name: told}]}))
        assert reader.finish() == [Finished("stop", stop_sequence=known)], (name, told)
    reader = AnswerReader(stops=("END",))
    deltas = [event for text in ("a E", "ND b") for event in reader.read(chunk({"content": text}))]
    assert [*deltas, *reader.finish()] == [TextDelta("a "), Finished("stop", stop_sequence="END")]


def test_complete_only_with_a_finish_reason_or_done():
    assert not read(chunk({"content": "x"}))[0].complete
    assert read(chunk(finish="stop"))[0].complete
    reader, _ = read(chunk({"tool_calls": [{"id": "1"}]}), "[DONE]")
    assert reader.complete and reader.finish()[-1].reason == "tool_calls"


def test_tool_calls_get_indices_ids_and_arguments():
    reader, deltas = read(chunk({"tool_calls": [{"index": 3, "id": "a"}, {"id": "b"}]}), chunk(finish="stop"))
    assert deltas == []  # their names may still come
    *calls, last = reader.finish()
    assert last.reason == "tool_calls"  # whatever the endpoint calls it
    assert calls == [
        *(ToolCallStart(0, "a", ""), ToolCallArguments(0, "{}")),
        *(ToolCallStart(1, "b", ""), ToolCallArguments(1, "{}")),
    ]


def test_a_function_call_of_old_is_a_tool_call():
    _, deltas = read(
        chunk({"function_call": {"name": "f", "arguments": ""}}),
        chunk({"function_call": {"arguments": '{"a"'}}),
        chunk({"function_call": {"arguments": ": 1}"}}),
    )
    (call,) = whole(deltas).choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("f", '{"a": 1}') and call.id


# ---- what is not content


def whole(deltas):
    return completion(collect(deltas), HEAD)


def streamed(deltas):
    maker = ChunkMaker(HEAD)
    bodies = [chunk.to_dict()["choices"][0]["delta"] for delta in deltas for chunk in maker.chunks(delta)]
    return bodies[1:]  # behind the role


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "reasoning_text", "thinking"])
def test_thoughts_keep_the_name_of_their_field(name):
    _, deltas = read(
        chunk({name: "Let me "}), chunk({name: "think.", "content": ""}), chunk({"content": "42"})
    )
    assert streamed(deltas) == [{name: "Let me "}, {name: "think."}, {"content": "42"}]
    message = whole(deltas).choices[0].message
    assert message.content == "42" and getattr(message, name) == "Let me think."
    assert message.to_dict() == {name: "Let me think.", "role": "assistant", "content": "42", "refusal": None}


def test_thoughts_that_stand_twice_are_shown_once_and_come_back_twice():
    _, deltas = read(
        chunk({"reasoning_content": "Let ", "reasoning": "Let "}), chunk({"reasoning_content": "me."})
    )
    assert collect(deltas).parts == (Reasoning("Let me.", "reasoning_content", {"reasoning": "Let "}),)
    assert streamed(deltas)[0] == {"reasoning_content": "Let ", "reasoning": "Let "}


def test_what_signs_thoughts_behind_the_text_is_theirs():
    for name in ("reasoning_details", "thinking_blocks"):
        _, deltas = read(
            chunk({"reasoning": "hm"}), chunk({"content": "42"}), chunk({name: [{"signature": "SIG"}]})
        )
        signed = Reasoning("hm", "reasoning", {name: [{"signature": "SIG"}]})
        assert collect(deltas).parts == (signed, Text("42"))


def test_reasoning_details_come_back_as_they_were():
    text = {"type": "reasoning.text", "index": 0, "format": "anthropic"}
    sealed = {"type": "reasoning.encrypted", "data": "c2VhbGVk", "index": 0, "id": "r1", "format": "x"}
    _, deltas = read(
        chunk({"reasoning": "Let ", "reasoning_details": [{**text, "text": "Let "}]}),
        chunk({"reasoning": "me.", "reasoning_details": [{**text, "text": "me."}]}),
        chunk({"reasoning_details": [{**text, "signature": "SIG"}]}),
        chunk({"reasoning_details": [sealed]}),
        chunk({"content": "42", "annotations": [{"type": "url_citation"}]}),
        chunk({"annotations": [{"type": "url_citation"}]}),
    )
    assert whole(deltas).choices[0].message.to_dict() == {
        "reasoning": "Let me.",
        "reasoning_details": [{**text, "text": "Let me.", "signature": "SIG"}, sealed],
        "annotations": [{"type": "url_citation"}] * 2,
        "role": "assistant",
        "content": "42",
        "refusal": None,
    }
    assert streamed(deltas)[3] == {"reasoning_details": [sealed]}


def test_a_refusal_is_no_content():
    for refusal in ({"refusal": "I can't."}, {"content": [{"type": "refusal", "refusal": "I can't."}]}):
        _, deltas = read(chunk({"content": None, **refusal}))
        assert deltas == [RefusalDelta("I can't.")] and streamed(deltas) == [{"refusal": "I can't."}]
        reply = whole(deltas)
        assert (reply.choices[0].message.content, reply.choices[0].message.refusal) == (None, "I can't.")
        assert reply.text == "I can't."


def test_content_in_parts():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "a"},
        {"type": "x"},
        {"text": "b"},
        "c",
    ]
    for content in (parts, [parts]):
        _, deltas = read(chunk({"content": content}))
        assert deltas == [ReasoningDelta("hm", "reasoning_content"), TextDelta("abc")]


# ---- when it ends


@pytest.mark.parametrize(
    "word", ["", "null", "None", " NULL ", "FINISH_REASON_UNSPECIFIED", "stop", "eos", 7, False]
)
def test_a_reason_in_every_chunk_ends_nothing(word):
    reader, deltas = read(*(chunk({"content": text}, word) for text in "abc"))
    assert not reader.done
    for event in (chunk({"content": "d"}, word), chunk(finish="length"), "[DONE]"):
        deltas += reader.read(event)
    assert whole(deltas).text == "abcd"
    assert reader.end()[-1].reason == "length"


@pytest.mark.parametrize("word", ["", "null", "none", None, 7])
def test_a_body_that_ends_without_a_reason_was_cut(word):
    with pytest.raises(Unfinished):
        read(chunk({"content": "a"}, word))[0].end()


@pytest.mark.parametrize("reason", ["stop", "tool_calls", None, "eos", ""])
@pytest.mark.parametrize(
    "message", [{}, {"content": ""}, {"content": None, "refusal": None}, {"tool_calls": []}]
)
def test_an_answer_with_nothing_in_it_is_none(reason, message):
    reader, _ = read(chunk({"role": "assistant", **message}), chunk(message, reason), "[DONE]")
    with pytest.raises(EmptyAnswer):
        reader.end(may_be_empty=False)
    assert reader.end(may_be_empty=True)


@pytest.mark.parametrize(
    "message",
    [
        {"content": " "},
        {"tool_calls": [{"id": "a", "function": {"name": "f"}}]},
        {"reasoning": "hm"},
        {"refusal": "no"},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
    ],
)
def test_an_answer_that_says_something_is_one(message):
    assert read(chunk(message, "stop"), "[DONE]")[0].end(may_be_empty=False)


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS", "content_filter", "SAFETY"])
def test_an_empty_answer_with_a_reason_is_told_with_it(reason):
    assert read(chunk({}, reason), "[DONE]")[0].end(may_be_empty=False)[-1].reason in reason.lower() + (
        "length content_filter"
    )


# ---- what keeps a connection open

FRAMES = [
    "",
    " ",
    ": keepalive",
    ":",
    "ping",
    "null",
    "7",
    "[]",
    "{}",
    '{"type": "ping"}',
    '{"type": "ping", "message": "hold on"}',
    '{"id": "c", "choices": null}',
    '{"id": "c", "choices": []}',
    '{"id": "c", "choices": [null]}',
    '{"choices": [{"index": null, "delta": null, "finish_reason": null}]}',
    '{"choices": [{"delta": {}}]}',
    '{"choices": [{"index": 0}]}',
    '{"choices": [{"index": "0", "delta": [], "finish_reason": ""}]}',
    '{"error": null, "choices": [], "usage": null}',
    '{"usage": {"prompt_tokens": 1, "completion_tokens": 1}}',
    '{"object": "chat.completion.chunk", "choices": [{"index": 1, "delta": {"content": "other"}}]}',
]


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_without_a_piece_is_passed_over(frame):
    reader, deltas = read(frame, chunk({"content": "a"}), frame, chunk({"content": "b"}, "stop"), frame)
    assert deltas == [TextDelta("a"), TextDelta("b")]
    assert reader.end(may_be_empty=False)[-1].reason == "stop"


@pytest.mark.parametrize("frame", [frame for frame in FRAMES if '"choices": [' not in frame])
def test_frames_alone_are_no_answer(frame):
    for events in ([frame], [frame, frame, "[DONE]"]):
        with pytest.raises(Garbled, match="no list of choices"):
            read(*events)[0].end()


@pytest.mark.parametrize("index", [None, "0", 0.0, "x", False, [], {}])
def test_an_index_that_is_no_other_choices(index):
    event = {"choices": [{"index": index, "delta": {"content": "ab"}, "finish_reason": "stop"}]}
    assert read(json.dumps(event))[1] == [TextDelta("ab")]


def events(wire):
    decoder = EventDecoder()
    return [*decoder.feed(wire), *decoder.rest()]


def test_events_have_names():
    assert [(event, event.name) for event in events(b"event: Error\ndata: a\n\ndata: b\n\n")] == [
        ("a", "error"),
        ("b", ""),
    ]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [chunk({"content": "b"}, "stop"), "[DONE]"])
def test_a_whole_event_at_the_end_needs_no_empty_line(end, last):
    assert events(f"\ufeffdata: a\n\ndata: {last}{end}".encode()) == ["a", last]
    assert events(f"data: a\n\ndata: {last[:-1]}{end}".encode()) == ["a"]


def test_logprobs_of_chat():
    top = {"token": "no", "logprob": -2, "bytes": [110, 111]}
    entry = {"token": "ja", "logprob": -0.5, "bytes": None, "top_logprobs": [top]}
    event = {"choices": [{"delta": {"content": "ja"}, "logprobs": {"content": [entry]}}]}
    _, deltas = read(json.dumps(event))
    assert deltas[0].logprobs == (TokenLogprob("ja", -0.5, b"ja", (TokenLogprob("no", -2.0, b"no"),)),)


def test_logprobs_of_completions():
    logprobs = {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [{"b": -3}]}
    _, deltas = read(json.dumps({"choices": [{"text": "a", "logprobs": logprobs}]}))
    assert deltas == [
        TextDelta("a", logprobs=(TokenLogprob("a", -1.0, b"a", (TokenLogprob("b", -3.0, b"b"),)),))
    ]
    _, deltas = read(json.dumps({"choices": [{"text": "a", "logprobs": None}]}))
    assert deltas == [TextDelta("a")]


def test_a_whole_answer():
    reader = AnswerReader()
    message = {"role": "assistant", "content": "Hi", "tool_calls": [{"id": "1"}]}
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    events = [*reader.read_whole(json.dumps(body).encode()), *reader.end()]
    assert events == [
        TextDelta("Hi"),
        ToolCallStart(0, "1", ""),
        ToolCallArguments(0, "{}"),
        Finished("tool_calls", Usage(1, 2)),
    ]


@pytest.mark.parametrize("body", [{}, {"choices": None}, {"object": "list", "data": []}])
def test_a_whole_body_that_is_no_answer(body):
    with pytest.raises(Garbled, match="no list of choices"):
        AnswerReader().read_whole(json.dumps(body).encode())


@pytest.mark.parametrize(
    "usage",
    [7, {}, {"prompt_tokens": -1, "completion_tokens": 1}, {"prompt_tokens": 10**30, "completion_tokens": 1}],
)
def test_usage_that_makes_no_sense_is_left_out(usage):
    assert read(chunk(usage=usage))[0].finish()[-1].usage is None


def test_other_choices_and_chunks_of_usage_alone_are_passed_over():
    _, deltas = read(
        json.dumps({"choices": [{"index": 1, "delta": {"content": "second"}}]}),
        json.dumps({"usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
    )
    assert deltas == []


@pytest.mark.parametrize(
    "event",
    [
        "{",
        '{"a":' * 100_000,
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
    ],
)
def test_what_is_not_their_format(event):
    with pytest.raises(Garbled):
        AnswerReader().read(event)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(0),
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
                    "function",
                    "name",
                    "arguments",
                    "id",
                    "type",
                    "reasoning",
                    "reasoning_details",
                    "refusal",
                    "detail",
                    "object",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


odd_deltas = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("role", "content", "refusal", "tool_calls", "function_call", "reasoning", "odd"), json_values
    ),
)
odd_chunks = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries(
                {"delta": odd_deltas},
                optional=dict.fromkeys(("index", "finish_reason", "logprobs", "error"), json_values),
            ),
            max_size=2,
        )
    },
    optional={"usage": json_values, "error": st.none() | st.booleans(), "object": json_values},
)


@given(json_values | odd_chunks)
def test_no_json_at_all_leads_to_another_error(value):
    reader = AnswerReader()
    try:
        deltas = reader.read(json.dumps(value))
    except (Garbled, ErrorObject):
        return
    for body in (
        whole(deltas).to_dict(),
        OpenAICompletions().whole(None, HEAD, collect(deltas)),
        *streamed(deltas),
    ):
        assert dumps(body)
    assert reader.finish()[-1].reason in ("stop", "length", "tool_calls", "content_filter")


@pytest.mark.parametrize(
    ("event", "message", "code"),
    [
        ({"error": {"message": "overloaded", "code": 529}}, "overloaded", 529),
        ({"error": {"message": "odd", "code": "rate_limit"}}, "odd", None),
        ({"error": "broken"}, "broken", None),
        ({"object": "error", "message": "vLLM's", "code": 400}, "vLLM's", 400),
        ({"choices": [{"delta": {}, "finish_reason": "error"}]}, "the model failed", None),
        ({"choices": [{"delta": {}, "finish_reason": "abort"}]}, "the model failed (abort)", None),
        ({"choices": [{"delta": {}, "error": {"message": "upstream", "code": 502}}]}, "upstream", 502),
        ({"choices": [], "error": {"message": "late"}}, "late", None),
        ({"detail": "the model is overloaded"}, "the model is overloaded", None),
        ({"code": "429", "message": "slow down"}, "slow down", 429),
        ({"type": "error", "status": 503, "msg": "down"}, "down", 503),
        ({"error": True, "choices": None}, "True", None),
    ],
)
def test_errors_in_place_of_a_piece(event, message, code):
    with pytest.raises(ErrorObject) as caught:
        AnswerReader().read(json.dumps(event))
    assert (caught.value.message, caught.value.code) == (message, code)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"detail": "the model is overloaded"}', "the model is overloaded"),
        ('{"choices": [], "why": 1}', "{'choices': [], 'why': 1}"),
        ("Internal Server Error", "Internal Server Error"),
        ("", "it did not say why"),
    ],
)
def test_an_event_called_error_is_one(data, message):
    reader = AnswerReader()
    with pytest.raises(ErrorObject) as caught:
        for event in EventDecoder().feed(f"event: error\ndata: {data}\n\n".encode()):
            reader.read(event)
    assert caught.value.message == message


# ---- numbers


@pytest.mark.parametrize(
    "word", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "null", "5", "-0.5", '"-1"', "9" * 400]
)
def test_log_probabilities_are_numbers_that_json_knows(word):
    entry = '{"token": "a", "logprob": %s, "bytes": null, "top_logprobs": [{"token": "b", "logprob": %s}]}'
    chat = '{"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [%s]}}]}' % (
        entry % (word, word)
    )
    text = '{"choices": [{"text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": [%s], "top_logprobs": [{"b": %s}]}}]}'
    for event in (chat, text % (word, word)):
        _, deltas = read(event)
        for entry_of in (deltas[0].logprobs[0], deltas[0].logprobs[0].top[0]):
            assert entry_of.logprob <= 0
        for body in (whole(deltas).to_dict(), OpenAICompletions().whole(None, HEAD, collect(deltas))):
            assert dumps(body)


@pytest.mark.parametrize(
    "spelled", [20_000_000, True, "abc", {"a": 1}, [256], [-1], ["a"], [1.5], [True], [0] * 5000]
)
def test_bytes_are_a_short_list_or_nothing(spelled):
    entry = {"token": "\ud800é", "logprob": -1, "bytes": spelled}
    event = {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [entry]}}]}
    (logprob,) = read(json.dumps(event))[1][0].logprobs
    assert logprob.token_bytes == "\ud800é".encode("utf-8", "surrogatepass")


def test_log_probabilities_that_nobody_asked_for_are_dropped():
    reader = AnswerReader(logprobs=False)
    for logprobs in ({"content": [{"token": "a", "logprob": -1}]}, 7, {"content": [{}]}):
        event = {"choices": [{"delta": {"content": "a"}, "logprobs": logprobs}]}
        assert reader.read(json.dumps(event)) == [TextDelta("a")]


def test_numbers_within_fields_of_the_endpoints_own_are_json_too():
    _, deltas = read('{"choices": [{"delta": {"content": "a", "odd": {"x": [NaN, 1e999, -Infinity, 1.5]}}}]}')
    assert deltas == [TextDelta("a"), ForeignDelta({"odd": {"x": [None, None, None, 1.5]}})]
    assert dumps(whole(deltas).to_dict())


def test_a_field_that_is_nested_too_deeply_for_our_own_answers_is_left_out():
    deep = '{"choices": [{"delta": {"content": "a", "odd": ' + "[" * 60 + "]" * 60 + "}}]}"
    assert read(deep)[1] == [TextDelta("a")]


@pytest.mark.parametrize("counts", [(5.0, 2, 0), (5, 2, None), (5, 2, -1), (5, 2, "x")])
def test_usage_in_odd_numbers(counts):
    prompt, completion, cached = counts
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    assert read(chunk(usage=usage))[0].finish()[-1].usage == Usage(5, 2, 0)
