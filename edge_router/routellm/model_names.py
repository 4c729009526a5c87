"""Models as RouteLLM names them, in LiteLLM's way: provider/model. Pure.

A strong model is any endpoint that speaks OpenAI's API; a weak one is compiled here, or lies in a server on
this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_router.errors import InvalidRequest
from edge_router.records import dataclass

OPENAI = "openai"
# Providers by LiteLLM's names: where they speak OpenAI's API, and the variable that holds their key.
PROVIDERS: Mapping[str, tuple[str, str]] = {
    OPENAI: ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "fireworks_ai": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "together_ai": ("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
}
# What LiteLLM reads their addresses from, the first that is set; without `api_base`.
_PLACES: Mapping[str, tuple[str, ...]] = {
    OPENAI: ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "deepseek": ("DEEPSEEK_API_BASE",),
    "fireworks_ai": ("FIREWORKS_API_BASE",),
    "groq": ("GROQ_API_BASE",),
    "openrouter": ("OPENROUTER_API_BASE",),
    "xai": ("XAI_API_BASE",),
}
# Servers on this machine: where they are unless a variable, or api_base, says otherwise.
SERVERS: Mapping[str, tuple[str, str]] = {
    "ollama": ("OLLAMA_API_BASE", "http://127.0.0.1:11434"),
    "ollama_chat": ("OLLAMA_API_BASE", "http://127.0.0.1:11434"),
    "lm_studio": ("LM_STUDIO_API_BASE", "http://127.0.0.1:1234"),
    "hosted_vllm": ("HOSTED_VLLM_API_BASE", "http://127.0.0.1:8000"),
    "llamafile": ("LLAMAFILE_API_BASE", "http://127.0.0.1:8080"),
}
_OPENAIS = ("gpt-", "o1", "o3", "o4", "chatgpt-")  # how names begin that need no provider


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model at an address; `variable` holds its key."""

    model: str
    base_url: str
    variable: str


def settings(
    strong_model: str,
    weak_model: str,
    api_base: str | None,
    *,
    environ: Mapping[str, str],
    is_known: Callable[[str], bool],
) -> dict[str, object]:
    """The settings that name both models. `is_known`: whether a weak model of that name is compiled here.

    Raises `InvalidRequest` for a strong model of which nobody knows where it is, and a weak one elsewhere.
    """
    strong = _asked(strong_model, api_base, environ)
    found: dict[str, object] = {
        "strong.engine": "openai",
        "strong.model": strong.model,
        "strong.base_url": strong.base_url,
        "strong.api_key_env": strong.variable,
    }
    if is_known(weak_model):
        return found | {"weak.engine": "auto", "weak.model": weak_model, "weak.base_url": None}
    provider, slash, model = weak_model.partition("/")
    if slash and provider in SERVERS:
        variable, usual = SERVERS[provider]
        place, name = api_base or environ.get(variable) or usual, model
    elif api_base is not None:
        place, name = api_base, weak_model.removeprefix(f"{OPENAI}/")
    else:
        ours = ", ".join(f"{each}/..." for each in sorted(SERVERS))
        reason = (
            f"{weak_model!r} would be asked elsewhere, and the weak model answers on this machine: name one "
            f"of `edge-router models list`, a file, or one of a server that runs here ({ours})"
        )
        raise InvalidRequest("weak_model", reason)
    return found | {"weak.engine": "remote", "weak.model": name, "weak.base_url": place}


def _asked(name: str, api_base: str | None, environ: Mapping[str, str]) -> RemoteModel:
    """A strong model."""
    provider, slash, model = name.partition("/")
    if not slash or provider not in PROVIDERS:
        provider, model = OPENAI, name
        if api_base is None and not name.startswith(_OPENAIS):
            known = ", ".join(sorted(PROVIDERS))
            reason = f"{name!r} is at no provider that is known here ({known}); say by api_base where it is"
            raise InvalidRequest("strong_model", reason)
    usual, key = PROVIDERS[provider]
    places = (place for variable in _PLACES.get(provider, ()) if (place := environ.get(variable)))
    return RemoteModel(model, api_base or next(places, usual), key)
