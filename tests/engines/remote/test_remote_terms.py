"""Refusals in the words of many servers: what is changed of the request, and what can't be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table import each

from edge_router.engines.remote.complaints import Complaint
from edge_router.engines.remote.terms import NO_TERMS, Terms, refused_field

BODY: dict[str, Any] = {
    "model": "big-4-32k",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi.", "name": "me"},
        {"role": "assistant", "content": "Yes?", "reasoning_content": "hm", "refusal": None},
        {"role": "user", "content": "So?"},
    ],
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.2,
    "top_p": 0.9,
    "top_k": 40,
    "seed": 7,
    "stop": ["x", "y", "z"],
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.1,
    "logit_bias": {"1": 5.0},
    "logprobs": True,
    "top_logprobs": 5,
    "max_tokens": 99999,
    "min_p": 0.1,
    "user": "u",
    "store": True,
    "metadata": {},
    "parallel_tool_calls": False,
    "reasoning_effort": "high",
    "chat_template_kwargs": {"enable_thinking": False},
}
FIELDS = sorted(BODY.keys() - {"model", "messages", "stream", "max_tokens"})


def refusal(message: str, param: str | None = None, code: str | None = None, **more: Any) -> Complaint:
    error = {"message": message, "param": param, "code": code, "type": "invalid_request_error"}
    return Complaint.of(400, message, {"error": error, **more})


def mended(
    message: str, body: dict[str, Any] | None = None, terms: Terms = NO_TERMS, **more: Any
) -> dict[str, Any]:
    """What the second request holds otherwise than the first: None for what is gone."""
    before = terms.fitted(body or BODY)
    after = terms.mended(before, refusal(message, **more))
    if after is None:
        return {}
    fitted = after.fitted(body or BODY)
    return {name: fitted.get(name) for name in before if fitted.get(name) != before[name]}


WORDINGS = [
    "Unsupported parameter: '{}' is not supported with this model.",
    "Unrecognized request argument supplied: {}",
    "Unknown parameter: '{}'.",
    "{}: Extra inputs are not permitted",
    "property '{}' is unsupported",
    "`{}` is not supported by this model",
    "The parameter {} is not supported.",
    "this model does not support {}",
    "{} is not supported",
    "body.{}: unexpected keyword",
    "Invalid parameter: {}",
    'Argument not supported: "{}"',
    "unexpected keyword argument '{}'",
    "[{{'type': 'extra_forbidden', 'loc': ('body', '{}'), 'msg': 'Extra inputs are not permitted', 'input': 1}}]",
]


@each("field", FIELDS)
@each("wording", WORDINGS)
def test_a_field_that_is_refused_by_name_is_left_out(field: str, wording: str) -> None:
    if field == "user" and "'" not in wording and "`" not in wording and '"' not in wording:
        return  # a word of any sentence
    gone = {field, "top_logprobs"} if field == "logprobs" else {field}
    assert mended(wording.format(field)) == dict.fromkeys(gone)


@each("field", FIELDS)
@each("words", ["Bad request.", "Not with this model.", "x" * 10_000])
def test_a_field_that_is_named_beside_the_message_is_left_out(field: str, words: str) -> None:
    gone = dict.fromkeys({field, "top_logprobs"} if field == "logprobs" else {field})
    assert mended(words, param=field) == gone
    assert mended(words, param=f"body.{field}") == gone
    detail = [{"type": "extra_forbidden", "loc": ["body", field], "msg": words, "input": BODY[field]}]
    terms = NO_TERMS.mended(BODY, Complaint.of(422, str(detail), {"detail": detail}))
    assert terms is not None and field not in terms.fitted(BODY)


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value.",
            {"temperature"},
        ),
        ("Temperature is not configurable for this model; it is not supported", {"temperature"}),
        ("generationConfig.topK is not supported", {"top_k"}),
        ("topP: unknown name", {"top_p"}),
        ("stop sequences are not supported", {"stop"}),
        ("frequencyPenalty is not supported", {"frequency_penalty"}),
        ("top logprobs is not allowed", {"top_logprobs"}),
        ("top_logprobs requires something else", {"top_logprobs"}),
        ("Additional properties are not allowed ('seed' was unexpected)", {"seed"}),
        ('json: unknown field "seed"', {"seed"}),
        (
            "Invalid JSON payload received. Unknown name \"seed\" at 'generation_config': Cannot find field.",
            {"seed"},
        ),
        ("unknown field `seed`, expected one of `model`, `messages`, `temperature`", {"seed"}),
        ("Request.__init__() got an unexpected keyword argument 'seed'", {"seed"}),
        ("logprobs are not supported with reasoning models.", {"logprobs", "top_logprobs"}),
        ("metadata is only allowed when store is enabled", {"metadata"}),
        ("Logprobs is not supported for this model.", {"logprobs", "top_logprobs"}),
        ("litellm.UnsupportedParamsError: this does not support parameters: {'top_k': 40}", {"top_k"}),
    ],
)
def test_other_spellings(message: str, fields: set[str]) -> None:
    assert mended(message) == dict.fromkeys(fields)


def test_two_fields_of_one_word_are_left_out_one_after_the_other() -> None:
    message = "Penalty is not enabled for this model"
    terms = NO_TERMS.mended(BODY, refusal(message))
    assert terms is not None
    terms = terms.mended(terms.fitted(BODY), refusal(message))
    assert terms is not None and terms.left_out == {"presence_penalty", "frequency_penalty"}


def test_several_fields_of_one_validation_are_left_out_at_once() -> None:
    detail = [{"loc": ["body", name], "msg": "Extra inputs are not permitted"} for name in ("seed", "min_p")]
    terms = NO_TERMS.mended(BODY, Complaint.of(422, str(detail), {"detail": detail}))
    assert terms is not None and terms.left_out == {"seed", "min_p"}


def test_a_value_that_is_refused_says_nothing_of_others() -> None:
    message = "Invalid value: 'high'. Supported values are: 'low', 'none'."
    terms = NO_TERMS.mended(BODY, refusal(message, param="reasoning_effort"))
    assert terms is not None
    assert "reasoning_effort" not in terms.fitted(BODY)
    assert terms.fitted({**BODY, "reasoning_effort": "low"})["reasoning_effort"] == "low"


LIMITS = [
    ("max_tokens is too large: 99999. This model supports at most 16384 completion tokens, whereas you gave 99999.", 16384),
    ("max_tokens is too large: 99999. It supports at most 16,384 completion tokens.", 16384),
    ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
    ("Range of max_tokens should be [1,8192]", 8192),
    ("`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the `context_window` for this model", 8192),
    ("max_tokens: 99999 > 8192, which is the maximum allowed number of output tokens for big-3-5", 8192),
    ("it has a maxOutputTokens value of 99999 but the supported range is from 1 (inclusive) to 8193 (exclusive).", 8192),
    ("too many tokens: max tokens must be less than or equal to 4096", 4096),
    ("max_tokens must be less than 4097", 4096),
    ("Invalid value for max_tokens: 99999. Must be in 1..=32768", 32768),
    ("The maximum tokens you requested exceeds the maximum limit of 32768", 32768),
    ("Requested max_tokens 99999 exceeds the limit of 4096", 4096),
    ("max_tokens: Input should be less than or equal to 4096", 4096),
    ("'max_tokens' or 'max_completion_tokens' is too large: 99999. This model's maximum context length is 4096 tokens and your request has 15 input tokens (99999 > 4096 - 15).", 4081),
    ("This model's maximum context length is 8192 tokens. However, you requested 100007 tokens (8 in the messages, 99999 in the completion).", 8184),
    ("This endpoint's maximum context length is 8192 tokens. However, you requested about 100009 tokens (9 of text input, 99999 in the output).", 8183),
    ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: 5 `inputs` tokens and 99999 `max_new_tokens`", 8188),
]  # fmt: skip


@each("message, limit", LIMITS)
@each("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_that_is_stated_is_kept(message: str, limit: int, name: str) -> None:
    body = {key: value for key, value in BODY.items() if key != "max_tokens"} | {name: 99999}
    assert mended(message, body) == {name: limit}
    assert mended(message, body, param="max_tokens") == {name: limit}


def test_a_limit_that_hangs_on_the_prompt_is_not_remembered() -> None:
    for message, _ in LIMITS[:-4]:
        terms = NO_TERMS.mended(BODY, refusal(message))
        assert terms is not None and terms.lasting() == terms
    for message, _ in LIMITS[-4:]:
        terms = NO_TERMS.mended(BODY, refusal(message))
        assert terms is not None and terms.lasting() == NO_TERMS


def test_a_limit_of_prompt_and_answer_together_is_found_step_by_step() -> None:
    terms = NO_TERMS
    for asked, fits in ((99999, 32756), (32768, 32756)):
        message = f"the sum of prompt tokens (12) and max_tokens ({asked}) exceeds 32768"
        after = terms.mended({**BODY, "max_tokens": asked}, refusal(message))
        assert after is not None and after.fitted({**BODY, "max_tokens": asked})["max_tokens"] == fits
        assert after.lasting() == NO_TERMS


def test_two_fields_that_do_not_go_together_are_welcome_alone() -> None:
    message = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
    terms = NO_TERMS.mended(BODY, refusal(message))
    assert terms is not None and len({"temperature", "top_p"} - terms.fitted(BODY).keys()) == 1
    assert terms.lasting() == NO_TERMS


def test_a_number_of_something_else_is_no_limit() -> None:
    assert mended("max_tokens is too large for accounts of tier 2") == {"max_tokens": None}


def test_a_limit_below_the_least() -> None:
    body = {**BODY, "max_tokens": 3}
    assert mended(
        "Invalid 'max_tokens': integer below minimum value. Expected a value >= 16, but got 3.", body
    ) == {"max_tokens": 16}


def test_a_limit_has_two_names_and_is_never_dodged() -> None:
    message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    terms = NO_TERMS.mended(BODY, refusal(message, param="max_tokens", code="unsupported_parameter"))
    assert terms is not None and terms.left_out == {"max_tokens"}
    other = {**terms.fitted(BODY), "max_completion_tokens": 99999}
    again = refusal("Unsupported parameter: 'max_completion_tokens'.", param="max_completion_tokens")
    assert terms.mended(other, again) is None
    assert refused_field(other, again) == "max_completion_tokens"
    raw = {"prompt": "x", "max_tokens": 5, "stream": True}
    assert NO_TERMS.mended(raw, refusal("unsupported: 'max_tokens'")) is None


@each(
    "message, name, value, fits",
    [
        ("Invalid temperature value, the valid range of temperature is [0, 1]", "temperature", 1.5, 1),
        ("temperature: Input should be less than or equal to 1", "temperature", 1.5, 1),
        ("temperature must be strictly positive", "temperature", 0.0, 0.01),
        ("temperature must be greater than 0", "temperature", 0.0, 0.01),
        ("top_p must be greater than 0.01", "top_p", 0.0, 0.011),
        ("temperature: range: 0..1", "temperature", 1.5, 1),
        ("temperature must be in the range 0.0-1.0", "temperature", 1.5, 1),
        ("temperature out of range 0 – 1", "temperature", 1.5, 1),
        ("temperature must be in [0, 1], got 1.5", "temperature", 1.5, 1),
        ("`top_p` must be > 0.0 and < 1.0", "top_p", 1.0, 0.999),
        ("`top_p` must be > 0.0 and < 1.0", "top_p", 0.0, 0.001),
        ("top_p must be in (0, 1], got 0.0.", "top_p", 0.0, 0.001),
        ("top_p must be in (0, 1)", "top_p", 1, 0.999),
        ("top_p must be between 0 and 1 (exclusive)", "top_p", 1.0, 0.999),
        ("top_p must be less than 1", "top_p", 1.0, 0.999),
        ("top_p 1.0 is invalid, the range is 0 to 1", "top_p", 1.0, None),
        ("top_logprobs must be less than 6", "top_logprobs", 20, 5),
        ("seed must be less than or equal to 2147483647", "seed", 2**40, 2147483647),
        ("top_logprobs must be at most 5", "top_logprobs", 20, 5),
        (
            "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5 instead.",
            "stop",
            list("abcde"),
            list("abcd"),
        ),
    ],
)
def test_a_range_that_is_stated_is_kept(message: str, name: str, value: Any, fits: Any) -> None:
    assert mended(message, {**BODY, name: value}) == {name: fits}


ROLES = [
    "messages[0].role: {} is not one of {others}user, assistant, tool",
    "Unsupported value: 'messages[0].role' does not support '{}' with this model.",
    "Failed to deserialize the JSON body: messages[0].role: unknown variant `{}`, expected one of {others}`user`, `assistant`, `tool`",
    "Input should be {others}'user', 'assistant' or 'tool' (role)",
    "Unexpected role '{}'",
    "{} role not supported",
    "Role must be one of {others}user, assistant; got '{}'",
    "{others}user and assistant are the allowed roles, not {}",
]


@pytest.mark.parametrize("wording", ROLES)
@pytest.mark.parametrize(("refused", "taken"), [("developer", "system"), ("system", "developer")])
def test_the_role_of_instructions_has_two_names(wording: str, refused: str, taken: str) -> None:
    body = {
        **BODY,
        "messages": [{"role": refused, "content": "Be brief."}, {"role": "user", "content": "Hi."}],
    }
    message = wording.replace("{others}", f"{taken}, ").format(refused)
    assert [each["role"] for each in mended(message, body)["messages"]] == [taken, "user"]
    neither = Terms(refused_roles=frozenset({taken}))
    message = wording.replace("{others}", "").format(refused)
    assert [each["role"] for each in mended(message, body, neither)["messages"]] == ["user", "user"]


@pytest.mark.parametrize(
    "message",
    [
        "System role not supported",
        "Developer instruction is not enabled for this model",
        "Unexpected message role.",
        "Only user and assistant roles are supported!",
    ],
)
@pytest.mark.parametrize("role", ["system", "developer"])
def test_who_takes_no_instructions_by_either_name_takes_them_from_a_user(message: str, role: str) -> None:
    body = {**BODY, "messages": [{"role": role, "content": "Be brief."}, {"role": "user", "content": "Hi."}]}
    terms, tries = NO_TERMS, 0
    while (mended := terms.mended(terms.fitted(body), refusal(message))) is not None:
        terms, tries = mended, tries + 1
    messages: Any = terms.fitted(body)["messages"]
    assert [each["role"] for each in messages] == ["user", "user"] and tries == 2


@pytest.mark.parametrize(
    "message", ["Unexpected message role.", "Conversation roles must alternate user/assistant/user"]
)
def test_what_may_be_about_any_role_is_not_mended(message: str) -> None:
    tool = {"role": "tool", "tool_call_id": "c1", "content": "1"}
    body = {**BODY, "messages": [*BODY["messages"], tool]}
    assert NO_TERMS.mended(body, refusal(message)) is None


def test_another_role_is_not_mended() -> None:
    body = {**BODY, "messages": [*BODY["messages"], {"role": "function", "name": "f", "content": "1"}]}
    said = refusal(
        "messages[4].role: function is not one of system, user, assistant, tool", param="messages[4].role"
    )
    assert NO_TERMS.mended(body, said) is None
    assert refused_field(body, said) == "messages.role"


@pytest.mark.parametrize(
    "message",
    [
        "messages[2].reasoning_content: Extra inputs are not permitted",
        "'messages.2' : for 'role:assistant' the following must be satisfied[('messages.2' : property 'reasoning_content' is unsupported)]",
        "property 'reasoning_content' is unsupported",
    ],
)
def test_a_field_of_messages_that_is_refused(message: str) -> None:
    (messages,) = mended(message).values()
    assert "reasoning_content" not in messages[2] and messages[2]["content"] == "Yes?"
    assert messages[1] == BODY["messages"][1]


@pytest.mark.parametrize(
    "message",
    [
        "The organization must be verified to stream this model.",
        "Unsupported value: 'stream' does not support true with this model.",
        "streaming is not supported for this model",
        "stream=True is not supported",
        "This model does not support streaming.",
        "'stream' must be false",
        "Streaming responses are disabled for your account",
        "stream mode not supported",
        "Only non-streaming is supported",
    ],
)
def test_who_does_not_stream_is_asked_for_the_whole(message: str) -> None:
    for param in (None, "stream"):
        if param or "verified" not in message:
            assert mended(message, param=param) == {"stream": False, "stream_options": None}


@pytest.mark.parametrize(
    "message",
    [
        "requests with a large max must have stream=true",
        "This model only support stream mode",
        "stream must be true",
    ],
)
def test_who_insists_on_a_stream_has_it_already(message: str) -> None:
    assert "stream" not in mended(message, param="stream")


ESSENTIAL = [
    ("The model `big` does not exist or you do not have access to it.", None, "model_not_found", "model"),
    ('model "big" not found, try pulling it first', None, None, "model"),
    ("big is not a valid model ID", None, None, "model"),
    ("No endpoints found for big.", None, None, "model"),
    ("Model Not Exist", None, None, "model"),
    ("registry/big:2b does not support tools", None, None, "tools"),
    ("No endpoints found that support tool use.", None, None, "tools"),
    (
        "Invalid schema for function 'look'",
        "tools[0].function.parameters",
        "invalid_function_parameters",
        "tools",
    ),
    ("This response_format type is unavailable now", None, None, "response_format"),
    ("'response_format' of type 'json_schema' is not supported", "response_format", None, "response_format"),
    ("Invalid value: 'required'", "tool_choice", None, "tool_choice"),
    ("image_url is not supported by this model", "messages.[0].content.[1].type", None, "messages.content"),
]


@pytest.mark.parametrize(("message", "param", "code", "field"), ESSENTIAL)
def test_what_a_request_means_is_never_left_out(message: str, param: str, code: str, field: str) -> None:
    tools = {"tools": [{}], "tool_choice": "required", "response_format": {"type": "json_schema"}}
    body, said = {**BODY, **tools}, refusal(message, param, code)
    assert NO_TERMS.mended(body, said) is None
    assert refused_field(body, said) == field


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ("This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.", "messages", "context_length_exceeded"),
        ("The response was filtered due to the content management policy.", "messages", "content_filter"),
        ("Your input was flagged.", "messages", None),
        ("Bad Request", None, None),
        ("", None, None),
        ("the model is overloaded", None, None),
        ("I was sent Bearer [key]", None, None),
    ],
)  # fmt: skip
def test_what_is_about_this_question_only_is_no_refusal_of_a_field(
    message: str, param: str, code: str
) -> None:
    body = {name: value for name, value in BODY.items() if name != "max_tokens"}
    said = refusal(message, param, code)
    assert NO_TERMS.mended(body, said) is None and refused_field(body, said) is None


@pytest.mark.parametrize("status", [200, 401, 403, 429, 500, 503])
def test_other_troubles_are_no_refusals(status: int) -> None:
    said = Complaint.of(status, "Unsupported parameter: 'seed'", {"error": {"param": "seed"}})
    assert NO_TERMS.mended(BODY, said) is None and refused_field(BODY, said) is None


def test_a_field_that_is_missing_is_named() -> None:
    said = Complaint.of(
        422, "Field required", {"detail": [{"loc": ["body", "max_length"], "msg": "Field required"}]}
    )
    assert NO_TERMS.mended(BODY, said) is None and refused_field(BODY, said) == "max_length"
    assert (
        refused_field(BODY, refusal("Missing required parameter", param="thinking.type")) == "thinking.type"
    )
    assert refused_field(BODY, refusal("Odd", param="no name\n at all")) is None


def test_what_is_kept_has_a_bound() -> None:
    many = Terms(left_out_values=frozenset(("user", repr(str(n))) for n in range(500)))
    assert len(NO_TERMS.merged(many).merged(many).left_out_values) == 100


def test_news_is_told_once_and_in_words() -> None:
    terms = Terms(
        left_out=frozenset({"seed"}),
        left_out_values=frozenset({("reasoning_effort", "'high'")}),
        left_out_of_messages=frozenset({"name"}),
        limits={"max_tokens": (None, 16384), "temperature": (0.01, 1)},
        refused_roles=frozenset({"developer"}),
        streams=False,
    )
    assert list(terms.news(NO_TERMS)) == [
        "'seed' is left out",
        "'reasoning_effort' is left out where it is 'high'",
        "'name' is left out of messages",
        "'max_tokens' is sent within … to 16384",
        "'temperature' is sent within 0.01 to 1",
        "the role developer is sent as system",
        "answers come as a whole",
    ]
    assert list(terms.merged(terms).news(terms)) == [] and NO_TERMS.merged(terms) == terms


QUOTA = [
    (
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
    ),
    (429, "You exceeded your current quota, please check your plan and billing details.", None),
    (402, "", None),
    (402, "Insufficient Balance", "invalid_request_error"),
    (402, "This request requires more credits, or fewer max_tokens.", None),
    (403, "Access denied, your account has arrears.", "Arrearage"),
    (400, "Your credit balance is too low to access the API.", None),
    (400, "Billing hard limit has been reached", "billing_hard_limit_reached"),
    (
        429,
        "Your account is not active, please check your billing details on our website.",
        "billing_not_active",
    ),
    (403, "insufficient user quota", "insufficient_user_quota"),
    (429, "insufficient funds", None),
    (200, "insufficient quota", "insufficient_quota"),
]


@pytest.mark.parametrize(("status", "message", "code"), QUOTA)
def test_a_quota_that_is_used_up(status: int, message: str, code: str) -> None:
    assert Complaint.of(status, message, {"error": {"message": message, "code": code}}).is_about_quota


@pytest.mark.parametrize(
    ("status", "message", "waits"),
    [
        (429, "Rate limit reached for requests per minute. Please try again in 20s.", False),
        (
            429,
            "You exceeded your current quota, please check your plan and billing details. Please retry in 22.9s.",
            False,
        ),
        (429, "You exceeded your current quota, please check your plan and billing details.", True),
        (429, "Too Many Requests", False),
        (500, "billing service is down", False),
        (400, "Unsupported parameter: 'seed'", False),
    ],
)
def test_too_many_requests_are_no_used_up_quota(status: int, message: str, waits: bool) -> None:
    assert not Complaint.of(status, message, None, waits=waits).is_about_quota


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(FIELDS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "detail", "loc", "msg", "param", "code", "type", "message"]), inner
        )
    ),
    max_leaves=8,
)
sentences = st.lists(
    st.sampled_from(
        [
            *FIELDS,
            "max_tokens",
            "not",
            "supported",
            "range",
            "at most",
            "5",
            "-1",
            "role",
            "system",
            "context length",
            "'",
            "tokens",
        ]
    ),
    max_size=12,
).map(" ".join)


@given(st.sampled_from([400, 404, 422]), sentences | st.text(), anything)
def test_no_refusal_whatever_breaks_anything(status: int, message: str, body: Any) -> None:
    terms, said = NO_TERMS, Complaint.of(status, message, body)
    for _ in range(5):
        fitted = terms.fitted(BODY)
        assert {"model", "messages", "stream"} <= fitted.keys()
        assert refused_field(fitted, said) is None or isinstance(refused_field(fitted, said), str)
        after = terms.mended(fitted, said)
        if after is None:
            break
        assert after.fitted(BODY) != fitted or "max_tokens" in after.left_out
        terms = after


def test_a_long_refusal_is_read_in_no_time() -> None:
    for text in (
        "9" * 60_000,
        "9," * 30_000,
        "'" * 60_000,
        "context length " * 4000,
        "max_tokens is " * 4000,
    ):
        said = refusal(text)
        assert said.numbers() is not None and said.room(5) <= 10**12
        NO_TERMS.mended(BODY, said)
