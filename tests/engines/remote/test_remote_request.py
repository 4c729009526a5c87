import threading

import pytest

from edge_router.engines.remote.request import RESERVED, request_body
from edge_router.engines.remote.terms import Terms
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
    body = request_body(ask(max_tokens=5), "remote", Terms(left_out=frozenset(refused)), newer=newer)
    assert {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body} == {
        field: 5
    }


def test_it_is_on_the_endpoints_terms():
    terms = Terms(
        left_out=frozenset({"stream_options", "top_k", "logprobs"}),
        left_out_values=frozenset({("reasoning_effort", "'none'")}),
        left_out_of_messages=frozenset({"name"}),
        limits={"max_tokens": (None, 9), "temperature": (0.01, 1), "stop": (None, 1)},
        refused_roles=frozenset({"system"}),
        streams=False,
    )
    request = ChatRequest(
        (
            Message("system", "be brief"),
            Message("user", "hi", raw={"role": "user", "content": "hi", "name": "me"}),
        ),
        sampling=SamplingParams(temperature=0.0, top_k=3),
        max_tokens=500,
        stop=("a", "b"),
        logprobs=True,
        top_logprobs=2,
        passthrough={"reasoning_effort": "none", "min_p": 0.1},
    )
    assert request_body(request, "remote", terms) == {
        "model": "remote",
        "stream": False,
        "temperature": 0.01,
        "max_tokens": 9,
        "stop": ["a"],
        "min_p": 0.1,
        "messages": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}],
    }
    nobody = Terms(refused_roles=frozenset({"system", "developer"}))
    assert [m["role"] for m in request_body(request, "remote", nobody)["messages"]] == ["user", "user"]


def test_completions_know_one_name_of_the_limit():
    terms = Terms(left_out=frozenset({"max_tokens", "max_completion_tokens"}))
    assert request_body(ask(raw_prompt="once", max_tokens=3), "remote", terms)["max_tokens"] == 3


def test_whatever_is_not_ours_is_passed_on():
    extra = {"chat_template_kwargs": {"a": 1}, "min_p": 0.1, "thinking": {}, "store": True, "new": [None]}
    body = request_body(ask(passthrough=extra), "remote")
    assert {name: body[name] for name in extra} == extra


def test_a_history_keeps_what_is_not_ours():
    turn = {
        "role": "assistant",
        "content": None,
        "refusal": "no",
        "reasoning_details": [{"data": "x"}],
        "a": 1,
    }
    request = ChatRequest((Message("assistant", "", raw=turn), Message("user", "hi")))
    assert request_body(request, "remote")["messages"][0] == turn
