"""What servers say, well-formed and not: they are other people's programs."""

from __future__ import annotations

import contextlib
import copy
import json

from table import each

from edge_router.chat.events import ReasoningDelta, TextDelta, ToolCallArguments, ToolCallStart
from edge_router.engines.local_server.dialects import OllamaDialect, ServedDialect
from edge_router.engines.local_server.servers import (
    LocalServer,
    ServedModel,
    read_server,
    running_entry,
    shown_model,
)
from edge_router.engines.remote.answer import AnswerReader
from edge_router.engines.remote.event_stream import ServerEvent
from edge_router.engines.remote.outcomes import ErrorObject, Garbled

URL = "http://127.0.0.1:1"
OPENAI = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "library"}]}
OLLAMA = {
    "models": OPENAI,
    "version": {"version": "0.14.2"},
    "tags": {
        "models": [
            {
                "name": "m:1b",
                "model": "m:1b",
                "size": 9,
                "digest": "ab",
                "capabilities": ["completion", "tools"],
            },
            {"name": "e", "model": "e", "capabilities": ["embedding"]},
            {"name": "c:cloud", "model": "c:cloud", "remote_host": "https://ollama.com", "remote_model": "c"},
        ]
    },
}
LLAMA = {
    "models": {
        "data": [{"id": "/a/M.gguf", "owned_by": "llamacpp", "meta": {"n_ctx_train": 8192, "size": 5}}]
    },
    "props": {
        "default_generation_settings": {"n_ctx": 2048},
        "modalities": {"vision": True},
        "chat_template_caps": {"supports_tools": False},
        "build_info": "b1",
    },
}
SEVERAL = {
    "models": {
        "data": [
            {"id": "a", "owned_by": "llamacpp", "status": {"value": "loaded"}, "meta": {"n_ctx": 512}},
            {"id": "b", "owned_by": "llamacpp", "status": {"value": "unloaded"}, "meta": None},
        ]
    },
    "props": {"default_generation_settings": {"n_ctx": 0}},
}
STUDIO = {
    "models": OPENAI,
    "version": None,
    "listed": {
        "data": [
            {
                "id": "q",
                "type": "vlm",
                "state": "loaded",
                "max_context_length": 9,
                "loaded_context_length": 8,
            },
            {"id": "e", "type": "embeddings", "max_context_length": 9},
        ]
    },
}
VLLM = {"models": {"data": [{"id": "q", "owned_by": "vllm", "max_model_len": 77, "root": "q"}]}}
OURS = {
    "models": {
        "data": [
            {"id": "weak", "owned_by": "edge_router", "max_model_len": 5, "local": True, "capabilities": {}},
            {"id": "strong", "owned_by": "edge_router", "local": False},
            {"id": "e", "owned_by": "edge_router", "capabilities": {"chat": False}},
        ]
    },
    "version": {"version": "0.14.0"},
    "tags": {"models": []},
}
KINDS = [
    (OLLAMA, "ollama", ["m:1b", "c:cloud"]),
    (LLAMA, "llama.cpp", ["/a/M.gguf"]),
    (SEVERAL, "llama.cpp", ["a", "b"]),
    (STUDIO, "lmstudio", ["q"]),
    (VLLM, "vllm", ["q"]),
    (OURS, "edge_router", ["weak", "strong"]),
    ({"models": OPENAI}, "other", ["m"]),
    ({"models": {"data": []}, "version": {"version": "0.14.2"}, "tags": {"models": []}}, "ollama", []),
]


@each("said, kind, names", KINDS)
def test_each_is_known_by_what_it_says(said, kind, names):
    server = read_server(URL, **said)
    assert server is not None and server.kind == kind and [model.name for model in server.models] == names


def test_what_is_no_server_of_models():
    assert read_server(URL) is None
    assert read_server(URL, models={"error": "Unexpected endpoint or method. (GET /v1/models)"}) is None


def test_facts_of_models():
    assert read_server(URL, **OLLAMA).models[1].elsewhere == "https://ollama.com"
    [model] = read_server(URL, **LLAMA).models
    assert (model.context, model.trained, model.tools, model.images) == (2048, 8192, False, True)
    assert [(each.context, each.loaded) for each in read_server(URL, **SEVERAL).models] == [
        (512, True),
        (None, False),
    ]
    [model] = read_server(URL, **STUDIO).models
    assert (model.context, model.trained, model.images, model.loaded) == (8, 9, True, True)
    assert [bool(each.elsewhere) for each in read_server(URL, **OURS).models] == [False, True]


NAMES = [
    ("ollama", "m", "m:latest"),
    ("ollama", "m:latest", "m:latest"),
    ("ollama", "n:1b", "n:1b"),
    ("ollama", "n", None),
    ("llama.cpp", "m-q8", "C:\\models\\M-Q8.gguf"),
    ("llama.cpp", "m-q8.gguf", "C:\\models\\M-Q8.gguf"),
    ("vllm", "m-q8", None),
]


@each("kind, asked, found", NAMES)
def test_names(kind, asked, found):
    models = tuple(ServedModel(name) for name in ("m:latest", "n:1b", "C:\\models\\M-Q8.gguf"))
    model = LocalServer(kind, URL, models).model(asked)
    assert (model and model.name) == found


SHOW = {
    "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960},
    "parameters": 'stop "<|im_end|>"\nnum_ctx                        16384\ntemperature 0.6',
    "capabilities": ["completion", "vision", "thinking"],
}
PS = {
    "models": [{"name": "m:latest", "model": "m:latest", "context_length": 4096, "size": 9, "size_vram": 7}]
}


def test_ollamas_context_is_what_is_loaded_else_what_its_file_says():
    shown = shown_model(ServedModel("m"), SHOW, running_entry(PS, "m"))
    assert (shown.context, shown.trained, shown.memory, shown.on_gpu, shown.loaded) == (
        4096,
        40960,
        9,
        7,
        True,
    )
    assert (shown.tools, shown.images, shown.thinks) == (False, True, True)
    assert shown_model(ServedModel("m"), SHOW, None).context == 16384
    assert shown_model(ServedModel("m"), {}, None).context is None


def test_other_weights_are_other_weights():
    keys = {
        ServedModel(name, identity=digest).weights(kind)
        for name in "ab"
        for digest in "cd"
        for kind in ("ollama", "vllm")
    }
    assert len(keys) == 8 and all(len(key) == 32 for key in keys)


# ---- what is not as it should be

WRONG = (None, 7, -1, 1.5, True, "x", [], {}, [[]], [None], {"a": None})


def broken(value):
    """`value` with each of its parts, itself too, replaced by something of another kind."""
    yield from WRONG
    if isinstance(value, dict):
        for name, inner in value.items():
            for each_ in broken(inner):
                yield {**value, name: each_}
            yield {key: other for key, other in value.items() if key != name}
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            for each_ in broken(inner):
                yield [*value[:place], each_, *value[place + 1 :]]


def objects(value):
    return (copy.copy(each_) for each_ in broken(value) if isinstance(each_, dict))


@each("said", [said for said, _, _ in KINDS])
def test_no_server_breaks_us_with_what_it_says_of_itself(said):
    for name, reply in said.items():
        for wrong in objects(reply):
            server = read_server(URL, **{**said, name: wrong})
            for model in () if server is None else server.models:
                assert isinstance(model.name, str) and model.name not in ("", "None"), (name, wrong)
                assert model.weights(server.kind) and isinstance(model.context, int | None)


def test_no_answer_about_a_model_breaks_us():
    for show in objects(SHOW):
        shown_model(ServedModel("m"), show, None)
    for ps in objects(PS):
        shown_model(ServedModel("m"), SHOW, running_entry(ps, "m"))


LINES = [
    {"message": {"role": "assistant", "content": "hi", "thinking": "so"}, "done": False},
    {
        "message": {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
        },
        "done": False,
    },
    {
        "message": {"content": "x"},
        "logprobs": [{"token": "x", "logprob": -1.0, "bytes": [120]}],
        "done": False,
    },
    {
        "message": {"content": ""},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 3,
        "eval_count": 2,
        "eval_duration": 5,
        "prompt_eval_duration": 6,
    },
    {"response": "hi", "done": False},
    {"error": "no", "status": 500},
]
CHUNK = {
    "choices": [{"delta": {"reasoning_content": "so"}, "logprobs": {"content": []}}],
    "timings": {"prompt_n": 1, "prompt_ms": 2.0},
}


def test_no_line_of_an_answer_breaks_us():
    dialects = [(OllamaDialect(ServedModel("m")), LINES), (ServedDialect(kind="llama.cpp"), [CHUNK])]
    for dialect, lines in dialects:
        for line in lines:
            for wrong in objects(line):
                with contextlib.suppress(Garbled, ErrorObject):
                    AnswerReader(chunk=dialect.chunk).read(ServerEvent(json.dumps(wrong)))


def test_ollamas_lines():
    reader = AnswerReader(chunk=OllamaDialect(ServedModel("m")).chunk)
    events = [event for line in LINES[:4] for event in reader.read(ServerEvent(json.dumps(line)))]
    assert [type(event) for event in events] == [
        ReasoningDelta,
        TextDelta,
        ToolCallStart,
        ToolCallArguments,
        TextDelta,
    ]
    assert events[3].text == '{"a": 1}' and events[4].logprobs[0].token_bytes == b"x"
    [finished] = reader.end()
    assert finished.reason == "tool_calls" and finished.usage.total_tokens == 5
