import threading

import pytest

from edge_router.engines.remote.request import RESERVED, refused_field, request_body
from edge_router.types import ChatRequest, Message, SamplingParams

RAW = {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {}}]}


def ask(**fields):
    return ChatRequest((Message("system", "be brief"), Message("user", "hi", raw=RAW)), **fields)


def test_the_least_request():
    assert request_body(ask(), "remote") == {
        "model": "remote",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "be brief"}, RAW],
    }


def test_every_field():
    sampling = SamplingParams(0.0, 0.9, 40, 7, 1.1, 0.5, -0.5, {42: -100.0})
    extra = {
        "tools": [{"type": "function"}],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
    }
    body = request_body(
        ask(
            sampling=sampling, max_tokens=9, stop=("a", "b"), logprobs=True, top_logprobs=3, passthrough=extra
        ),
        "remote",
    )
    del body["messages"]
    assert body == {
        **extra,
        "model": "remote",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 40,
        "seed": 7,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logit_bias": {"42": -100.0},
        "max_tokens": 9,
        "stop": ["a", "b"],
        "logprobs": True,
        "top_logprobs": 3,
    }


def test_a_raw_prompt_goes_to_completions():
    body = request_body(
        ask(raw_prompt="once", max_tokens=3, logprobs=True, top_logprobs=2), "remote", newer=True
    )
    assert body == {
        "model": "remote",
        "stream": True,
        "stream_options": {"include_usage": True},
        "prompt": "once",
        "max_tokens": 3,
        "logprobs": 2,
    }


def test_the_request_cannot_name_the_model_nor_reach_a_proxy_with_addresses_or_keys():
    passthrough = dict.fromkeys(RESERVED, threading.TIMEOUT_MAX)
    body = request_body(ask(model="somebody else's", passthrough=passthrough), "remote")
    assert body["model"] == "remote"
    assert body["stream"] is True
    assert set(body) & RESERVED == {"model", "messages", "stream", "stream_options"}
    assert {"api_key", "base_url", "api_base", "extra_headers"} <= RESERVED


@pytest.mark.parametrize(
    ("refused", "newer", "field"),
    [
        ((), False, "max_tokens"),
        ((), True, "max_completion_tokens"),
        (("max_tokens",), False, "max_completion_tokens"),
        (("max_completion_tokens",), True, "max_tokens"),
    ],
)
def test_the_name_of_the_limit(refused, newer, field):
    body = request_body(ask(max_tokens=5), "remote", refused=set(refused), newer=newer)
    assert {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body} == {
        field: 5
    }


def test_refused_fields_are_left_out():
    body = request_body(ask(sampling=SamplingParams(top_k=3)), "remote", refused={"stream_options", "top_k"})
    assert "stream_options" not in body and "top_k" not in body


BODY = {"max_tokens": 5, "stream_options": {}, "top_k": 3, "temperature": 1.0}


@pytest.mark.parametrize(
    ("complaint", "refused", "field"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens'.",
            (),
            "max_tokens",
        ),
        ("Unrecognized request argument supplied: top_k", (), "top_k"),
        ("[{'type': 'extra_forbidden', 'loc': ['body', 'stream_options']}]", (), "stream_options"),
        ("max_tokens is too large: 99999", (), None),  # a limit, which must not be dodged
        ("Unsupported parameter: 'max_tokens'", ("max_completion_tokens",), None),
        ("Unsupported value: 'temperature' does not support 1.0", (), None),  # it would mean something else
        ("Unknown parameter: 'repetition_penalty'", (), None),  # not sent
    ],
)
def test_what_a_complaint_would_have_us_leave_out(complaint, refused, field):
    assert refused_field(BODY, complaint, set(refused)) == field


def test_completions_know_one_name_of_the_limit():
    assert refused_field({"prompt": "", "max_tokens": 5}, "unsupported: max_tokens", set()) is None
