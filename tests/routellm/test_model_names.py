"""Which of our settings RouteLLM's names of models stand for."""

from __future__ import annotations

import pytest
from table import each

from edge_router.config.settings import Config
from edge_router.errors import InvalidRequest
from edge_router.routellm.model_names import settings


def named(strong, weak, api_base=None, **environ):
    found = settings(strong, weak, api_base, environ=environ, is_known=lambda name: name == "Qwen3-4B")
    config = Config().replace(**found)
    return config.strong, config.weak


STRONG = [
    ("gpt-4-1106-preview", None, "gpt-4-1106-preview", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    ("openai/gpt-4.1", None, "gpt-4.1", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    ("groq/llama-3.3-70b", None, "llama-3.3-70b", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    ("anthropic/claude-x", None, "claude-x", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    ("openrouter/a/b", None, "a/b", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    ("openai/m", "http://127.0.0.1:4000", "m", "http://127.0.0.1:4000", "OPENAI_API_KEY"),
    (
        "mistralai/Mixtral",
        "http://127.0.0.1:4000",
        "mistralai/Mixtral",
        "http://127.0.0.1:4000",
        "OPENAI_API_KEY",
    ),
]


@each("name, api_base, model, base_url, variable", STRONG)
def test_strong_models(name, api_base, model, base_url, variable):
    strong, _ = named(name, "Qwen3-4B", api_base)
    assert (strong.model, strong.base_url, strong.api_key_env) == (model, base_url, variable)


WEAK = [
    ("Qwen3-4B", None, "auto", "Qwen3-4B", None),
    ("Qwen3-4B", "http://127.0.0.1:4000", "auto", "Qwen3-4B", None),
    ("ollama_chat/qwen3:4b", None, "remote", "qwen3:4b", "http://127.0.0.1:11434"),
    ("ollama/hf.co/a/b:Q4", None, "remote", "hf.co/a/b:Q4", "http://127.0.0.1:11434"),
    ("lm_studio/m", None, "remote", "m", "http://127.0.0.1:1234"),
    ("hosted_vllm/a/b", "http://127.0.0.1:9/v1", "remote", "a/b", "http://127.0.0.1:9/v1"),
    ("openai/m", "http://127.0.0.1:9/v1", "remote", "m", "http://127.0.0.1:9/v1"),
    ("a/b", "http://127.0.0.1:9/v1", "remote", "a/b", "http://127.0.0.1:9/v1"),
]


@each("name, api_base, engine, model, base_url", WEAK)
def test_weak_models(name, api_base, engine, model, base_url):
    _, weak = named("gpt-4.1", name, api_base)
    assert (weak.engine, weak.model, weak.base_url) == (engine, model, base_url)


def test_litellms_variables_count():
    _, weak = named("gpt-4.1", "ollama/m", OLLAMA_API_BASE="http://127.0.0.1:5")
    assert weak.base_url == "http://127.0.0.1:5"
    for name, variable in (
        ("gpt-4.1", "OPENAI_API_BASE"),
        ("openai/m", "OPENAI_BASE_URL"),
        ("groq/m", "GROQ_API_BASE"),
    ):
        place = {variable: "http://127.0.0.1:6/v1", "MISTRAL_API_BASE": "http://127.0.0.1:7"}
        assert named(name, "Qwen3-4B", **place)[0].base_url == "http://127.0.0.1:6/v1", variable
        other, _ = named(name, "Qwen3-4B", "http://127.0.0.1:8", **place)
        assert other.base_url == "http://127.0.0.1:8", variable
    both = {"OPENAI_API_BASE": "http://127.0.0.1:6", "OPENAI_BASE_URL": "http://127.0.0.1:7"}
    assert named("gpt-4.1", "Qwen3-4B", **both)[0].base_url == "http://127.0.0.1:7"
    assert named("groq/m", "Qwen3-4B", **both)[0].base_url == "https://api.groq.com/openai/v1"


@each(
    "weak", ["anyscale/mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4o-mini", "groq/llama3-8b-8192", "nosuch"]
)
def test_a_weak_model_that_is_elsewhere_is_refused(weak):
    with pytest.raises(InvalidRequest, match="on this machine") as caught:
        named("gpt-4.1", weak)
    assert caught.value.param == "weak_model" and "ollama_chat/" in caught.value.reason


@each("strong", ["mistralai/Mixtral", "bedrock/x", "nosuch"])
def test_a_strong_model_of_which_nobody_knows_where_it_is(strong):
    with pytest.raises(InvalidRequest, match="api_base") as caught:
        named(strong, "Qwen3-4B")
    assert caught.value.param == "strong_model"
