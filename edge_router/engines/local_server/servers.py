"""What local servers say of themselves and their models, each in its own words. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from edge_router.engines.remote.place import cloud_of
from edge_router.records import dataclass

Kind = Literal["ollama", "lmstudio", "llama.cpp", "vllm", "mlc", "edge_router", "other"]
Said = Mapping[str, Any]

TITLES: Mapping[Kind, str] = {
    "ollama": "Ollama",
    "lmstudio": "LM Studio",
    "llama.cpp": "llama.cpp's server",
    "vllm": "vLLM",
    "mlc": "mlc_llm serve",
    "edge_router": "edge-router",
    "other": "an OpenAI-compatible server",
}
_OWNERS: Mapping[str, Kind] = {
    "llamacpp": "llama.cpp",
    "vllm": "vllm",
    "MLC-LLM": "mlc",
    "edge_router": "edge_router",
}
LATEST = ":latest"
_REFUSES_LONG, _LOGPROBS = (0, 12, 6), (0, 12, 11)  # versions of Ollama
_EMBEDDINGS = ("embedding", "embeddings")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """`context` is its window there, `trained` the longest that it was made for; None: not told.

    `elsewhere`: the host where it really runs, for some servers pass questions on. `identity` is another one
    for other weights. `memory`: bytes that it takes now, of which `on_gpu` on a GPU.
    """

    name: str
    context: int | None = None
    trained: int | None = None
    tools: bool | None = None
    images: bool = False
    thinks: bool | None = None
    loaded: bool | None = None
    size: int | None = None  # bytes of its file
    memory: int | None = None
    on_gpu: int | None = None
    elsewhere: str = ""
    identity: str = ""

    def weights(self, kind: Kind) -> str:
        """The key under which is kept what was calibrated for it."""
        whole = "\n".join((kind, self.name, self.identity))
        return hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class LocalServer:
    """Models that answer chats, as it lists them. `loading`: it cannot tell yet."""

    kind: Kind
    url: str
    models: tuple[ServedModel, ...] = ()
    version: str = ""
    loading: bool = False

    @property
    def title(self) -> str:
        return f"{TITLES[self.kind]} {self.version}".strip()

    @property
    def here(self) -> tuple[ServedModel, ...]:
        """Its models that run on this machine."""
        return tuple(model for model in self.models if not model.elsewhere)

    @property
    def refuses_long(self) -> bool:
        """Whether it says so where a prompt is too long, rather than cut it in silence."""
        return self.kind != "ollama" or _numbers(self.version) >= _REFUSES_LONG

    @property
    def tells_logprobs(self) -> bool:
        return self.kind != "lmstudio" and (self.kind != "ollama" or _numbers(self.version) >= _LOGPROBS)

    def model(self, name: str) -> ServedModel | None:
        """By its name there, as Ollama completes it, or for a file by what it is called."""
        known = {each.name: each for each in self.models}
        found = known.get(name) or known.get(name + LATEST) or known.get(name.removesuffix(LATEST))
        if found is None and self.kind == "llama.cpp":
            found = next((each for each in self.models if _stem(each.name) == _stem(name)), None)
        return found


def read_server(
    url: str,
    *,
    models: Said | None = None,
    version: Said | None = None,
    tags: Said | None = None,
    props: Said | None = None,
    listed: Said | None = None,
) -> LocalServer | None:
    """Of its answers to GET /v1/models, /api/version, /api/tags, /props and /api/v0/models; None: it has
    none of them. Some answer what they do not know with 200 and an error, so it is the form that counts.
    """
    data = _entries(models, "data")
    kind = next((_OWNERS[owner] for each in data if (owner := str(each.get("owned_by"))) in _OWNERS), None)
    if props is not None and isinstance(props.get("default_generation_settings"), dict):
        kind = "llama.cpp"
    if kind == "llama.cpp":
        return LocalServer(
            kind, url, tuple(_llama_cpp(data, props or {})), str((props or {}).get("build_info", ""))
        )
    entries = _entries(listed, "data")
    if any("compatibility_type" in each or "max_context_length" in each for each in entries):
        return LocalServer("lmstudio", url, tuple(_lm_studio(entries)))
    if kind is None and isinstance((version or {}).get("version"), str) and tags is not None:
        found = tuple(map(_tagged, _chatting(_entries(tags, "models"))))
        return LocalServer("ollama", url, found, str((version or {})["version"]))
    if models is None or "data" not in models:
        return None
    said = str((version or {}).get("version", "")) if kind in (None, "edge_router") else ""
    return LocalServer(kind or "other", url, tuple(_openai(data)), said)


# ---- Ollama ------------------------------------------------------------------------------------------------


def _chatting(entries: Sequence[Said]) -> list[Said]:
    """Without those that only embed, where it tells which these are."""
    able = [(each, _words(each.get("capabilities"))) for each in entries]
    return [each for each, words in able if not words or "completion" in words]


def _tagged(entry: Said) -> ServedModel:
    name = _name(entry)
    able = _words(entry.get("capabilities"))
    return ServedModel(
        name,
        tools="tools" in able if able else None,
        images="vision" in able,
        thinks="thinking" in able if able else None,
        size=_count(entry.get("size")),
        elsewhere=cloud_of(name, entry),
        identity=str(entry.get("digest", "")),
    )


def shown_model(listed: ServedModel, show: Said, running: Said | None) -> ServedModel:
    """A model of Ollama's after POST /api/show, and while it is loaded its entry of GET /api/ps."""
    info = show.get("model_info")
    info = info if isinstance(info, dict) else {}
    trained = _count(info.get(f"{info.get('general.architecture')}.context_length"))
    able = _words(show.get("capabilities"))
    fixed = re.search(r"^num_ctx\s+(\d{1,9})\s*$", str(show.get("parameters") or ""), re.MULTILINE)
    running = running or {}
    context = _count(running.get("context_length")) or (int(fixed[1]) if fixed else None)
    return ServedModel(
        listed.name,
        context=context if context is None or trained is None else min(context, trained),
        trained=trained,
        tools="tools" in able if able else listed.tools,
        images="vision" in able or listed.images,
        thinks="thinking" in able if able else listed.thinks,
        loaded=bool(running),
        size=listed.size,
        memory=_count(running.get("size")),
        on_gpu=_count(running.get("size_vram")),
        elsewhere=listed.elsewhere or cloud_of(listed.name, show),
        identity=listed.identity,
    )


def running_entry(ps: Said | None, name: str) -> Said | None:
    """Of GET /api/ps."""
    names = (name, name + LATEST)
    return next((each for each in _entries(ps, "models") if _name(each) in names), None)


# ---- others ------------------------------------------------------------------------------------------------


def _llama_cpp(data: Sequence[Said], props: Said) -> Iterator[ServedModel]:
    """With several models (its router mode) `props` tells of none of them."""
    settings = props.get("default_generation_settings")
    context = _count(settings.get("n_ctx")) if isinstance(settings, dict) else None
    able = props.get("modalities")
    caps = props.get("chat_template_caps")
    tools = caps.get("supports_tools") if isinstance(caps, dict) else None
    for each in data:
        meta = each.get("meta")
        meta = meta if isinstance(meta, dict) else {}
        status = each.get("status")
        value = status.get("value") if isinstance(status, dict) else None
        alone = len(data) == 1
        yield ServedModel(
            _name(each),
            context=(context or None) if alone else _count(meta.get("n_ctx")),
            trained=_count(meta.get("n_ctx_train")),
            tools=tools if isinstance(tools, bool) else None,
            images=isinstance(able, dict) and able.get("vision") is True,
            loaded=True if value is None else value == "loaded",
            size=_count(meta.get("size")),
            identity=f"{meta.get('n_params')} {meta.get('size')} {meta.get('n_vocab')}",
        )


def _lm_studio(entries: Sequence[Said]) -> Iterator[ServedModel]:
    for each in entries:
        if each.get("type") in _EMBEDDINGS:
            continue
        trained, held = _count(each.get("max_context_length")), _count(each.get("loaded_context_length"))
        able = each.get("capabilities")
        yield ServedModel(
            _name(each),
            context=held,
            trained=trained,
            tools="tool_use" in able if isinstance(able, list) else None,
            images=each.get("type") == "vlm",
            loaded=each.get("state") == "loaded",
            identity=f"{each.get('arch')} {each.get('quantization')}",
        )


def _openai(data: Sequence[Said]) -> Iterator[ServedModel]:
    """vLLM tells its window, ours tells more."""
    for each in data:
        able = each.get("capabilities")
        able = able if isinstance(able, dict) else {}
        if able.get("chat") is False:
            continue
        yield ServedModel(
            _name(each),
            context=_count(each.get("max_model_len")),
            tools=able.get("tools") if isinstance(able.get("tools"), bool) else None,
            images=able.get("vision") is True,
            elsewhere="its own strong model" if each.get("local") is False else "",
            identity=str(each.get("root") or ""),
        )


def _numbers(version: str) -> tuple[int, ...]:
    """What does not look like one is new: those that build their own call it 0.0.0."""
    found = re.match(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})", version)
    numbers = tuple(map(int, found.groups())) if found else ()
    return numbers if any(numbers) else (1,)


def _entries(said: Said | None, name: str) -> list[Said]:
    """Those of a list that have a name."""
    found = (said or {}).get(name)
    entries = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return [each for each in entries if _name(each)]


def _name(entry: Said) -> str:
    names = (entry.get("id"), entry.get("model"), entry.get("name"))
    return next((name for name in names if isinstance(name, str) and name), "")


def _words(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _stem(name: str) -> str:
    """Of a file's path, on any system."""
    return re.split(r"[/\\]", name)[-1].removesuffix(".gguf").lower()


_STARTS = {
    "ollama": "ollama serve",
    "lmstudio": "lms server start",
    "llama.cpp": "llama-server -m MODEL.gguf",
    "vllm": "vllm serve MODEL",
    "mlc": "mlc_llm serve MODEL",
    "edge_router": "edge-router serve",
}


def how_to_start(kind: str) -> str:
    """What to do where a server of that kind is not there; "" is one that nobody has seen yet."""
    return f"start it with `{_STARTS[kind]}`" if kind in _STARTS else "start it"
