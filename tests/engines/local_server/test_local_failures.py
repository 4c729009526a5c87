"""What servers say when something is wrong, and what it means for a weak model."""

from __future__ import annotations

from table import each

from edge_router.engines.local_server.failures import StillLoading, ours, refusal
from edge_router.engines.local_server.servers import LocalServer, ServedModel
from edge_router.errors import (
    ContextOverflow,
    GenerationFailed,
    LocalServerDown,
    OutOfMemory,
    ServedModelMissing,
    StrongEmpty,
    StrongFailed,
    StrongGarbled,
    StrongInterrupted,
    StrongRateLimited,
    StrongRedirected,
    StrongRefused,
    StrongTimeout,
    StrongUnauthorized,
    StrongUnreachable,
    UnsupportedRequest,
)

OLLAMA = LocalServer("ollama", "http://127.0.0.1:11434", (ServedModel("a:1b"),), "0.14.2")

SAID = [
    (500, "model requires more system memory (5.6 GiB) than is available (3.2 GiB)", OutOfMemory),
    (500, "llama runner process has terminated: cudaMalloc failed: out of memory", OutOfMemory),
    (500, "unable to allocate CPU buffer", OutOfMemory),
    (200, "CUDA out of memory. Tried to allocate 2.00 GiB", OutOfMemory),
    (500, "vk::Device::allocateMemory: ErrorOutOfDeviceMemory", OutOfMemory),
    (
        400,
        "Model loading was stopped due to insufficient system resources. Under the current settings, this model "
        "requires approximately 24.1 GB of memory",
        OutOfMemory,
    ),
    (400, "Not enough resources to load the model with the current settings", OutOfMemory),
    (400, "the input length exceeds the context length", ContextOverflow),
    (
        400,
        "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust "
        "the context length in settings, or use a model with a longer context length",
        ContextOverflow,
    ),
    (
        400,
        "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        ContextOverflow,
    ),
    (
        400,
        "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens.",
        ContextOverflow,
    ),
    (
        400,
        "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context "
        "length of only 4096 tokens, which is not enough.",
        ContextOverflow,
    ),
    (
        400,
        "Request prompt has 5000 tokens in total, larger than the model input length limit 4096.",
        ContextOverflow,
    ),
    (404, "model 'qwen3:4b' not found", ServedModelMissing),
    (404, 'model "qwen3:4b" not found, try pulling it first', ServedModelMissing),
    (400, "The model `x` does not exist.", ServedModelMissing),
    (503, "Loading model", StillLoading),
    (503, "server busy, please try again.  maximum pending requests exceeded", GenerationFailed),
    (400, '"gemma3:4b" does not support tools', UnsupportedRequest),
    (500, "llama runner process has terminated: exit status 2", GenerationFailed),
    (500, "", GenerationFailed),
]


@each("status, said, kind", SAID)
def test_words_of_servers(status, said, kind):
    found = refusal(OLLAMA, "qwen3:4b", status, said, prompt=3000, window=4096)
    assert type(found) is kind, found


def test_facts_in_the_words():
    memory = refusal(OLLAMA, "m", 500, SAID[0][1])
    assert (memory.needed, memory.free) == (int(5.6 * 2**30), int(3.2 * 2**30))
    for said in [said for _, said, kind in SAID if kind is ContextOverflow]:
        found = refusal(OLLAMA, "m", 400, said, prompt=4500, window=4096)
        assert (
            found.prompt_tokens == (5000 if "5000" in said else 4500) and found.context_window_size == 4096
        ), said
    missing = refusal(OLLAMA, "m", 404, "model 'm' not found")
    assert (missing.known, missing.kind) == (("a:1b",), "ollama")


URL = "http://127.0.0.1:11434"
CLIENT = [
    (StrongUnreachable(URL, "Connection refused"), LocalServerDown, "Connection refused"),
    (StrongRedirected(URL, 307, "http://example.org"), LocalServerDown, "example.org"),
    (StrongTimeout(URL, 600, "strong.timeout_s"), LocalServerDown, "weak.server_timeout_s"),
    (StrongUnauthorized(URL, 401, None), LocalServerDown, "weak.api_key_env"),
    (StrongRateLimited(URL), GenerationFailed, "too much to do"),
    (StrongInterrupted(URL, "the answer ended in the middle"), GenerationFailed, "broke off"),
    (StrongInterrupted(URL, "CUDA error: out of memory"), OutOfMemory, "out of memory"),
    (StrongGarbled(URL, "broken JSON"), GenerationFailed, "broken JSON"),
    (StrongEmpty(URL), GenerationFailed, "empty"),
    (StrongFailed(URL, 500, SAID[0][1]), OutOfMemory, "more system memory"),
    (StrongRefused(URL, 400, "tools", '"m" does not support tools'), UnsupportedRequest, "support tools"),
    (StrongRefused(URL, 404, "model", "model 'm' not found"), ServedModelMissing, "no model"),
]


@each("error, kind, words", CLIENT)
def test_nothing_of_the_strong_side_is_left_in_an_error(error, kind, words):
    found = ours(error, OLLAMA, "m", prompt=10, window=4096)
    assert type(found) is kind and words in str(found) and "strong" not in str(found).lower()
