"""What to build: a model card and the settings of one machine, with every default filled in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, cast

from edge_router.catalog import ModelCard, Source
from edge_router.catalog.configs import language_part
from edge_router.config.settings import Config
from edge_router.errors import ConfigError
from edge_router.records import dataclass
from edge_router.vram.budget import check_kept_numbers
from edge_router.vram.estimate import SINK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOGETHER = 8  # sequences that every library of ours can decode at once: fewer need no other one
ENDLESS = 1 << 20  # tokens: what a conversation that forgets may come to
PROGRAM = "webgpu"  # the target of everything that the engine of that name runs
MLC = "mlc"  # likewise: mlc_llm's own compiler makes it, for the recipe's `device`
_TARGETS = {"auto": "llvm", "cpu": "llvm"}  # `weak.device` to TVM's kind of target
_TARGETS |= dict.fromkeys(("vulkan", "metal", "d3d12"), PROGRAM)


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What a user may choose; None is what the model card says. Windows are in tokens."""

    quantization: str | None = None
    quantizer: str | None = None
    target: str = "llvm"
    context_window_size: int | None = None
    prefill_chunk_size: int | None = None
    max_sequences: int = 1
    device: str = "auto"  # only where the target alone does not say it
    sliding_window_size: int | None = None
    attention_sink_size: int | None = None
    endless: bool = False  # a conversation beyond the context goes on, and forgets
    bytes: bool = False  # activations become those on a processor, see `weak.activations`
    kv_cache: str = "auto"  # in what keys and values are kept
    shared: bool = False  # a library that is linked, as MLC's runtime and others load it
    mlc_python: str | None = None  # the Python that has mlc_llm, see `edge_router.mlc_python`

    @classmethod
    def from_config(cls, config: Config, *, shared: bool = False) -> BuildSettings:
        """With `shared` the engine has no say: it is a library, of a model that keeps its whole context.

        Raises `ConfigError`.
        """
        if shared:
            engines_own = {"weak.engine": "tvm", "weak.overflow": "auto", "weak.kv_cache": "auto"}
            config = config.replace(**engines_own)
        weak = config.weak
        settings = cls(
            quantization=weak.quantization,
            quantizer=weak.quantizer,
            target=_target(weak.engine, weak.device, shared=shared),
            context_window_size=weak.context_window_size,
            prefill_chunk_size=weak.prefill_chunk_size,
            max_sequences=weak.max_sequences or 1,
            sliding_window_size=weak.sliding_window_size,
            attention_sink_size=weak.attention_sink_size,
            endless=weak.overflow == "window",
            bytes=weak.activations == "int8",
            kv_cache=weak.kv_cache,
            shared=shared,
        )
        check_kept_numbers(config)
        forgets = weak.engine != MLC and settings.target in ("llvm", PROGRAM)
        if settings.endless and not forgets:
            _refuse(config, "weak.overflow", "only tvm on a processor and webgpu forget")
        if weak.engine != MLC:
            if weak.attention_sink_size and not forgets:
                _refuse(config, "weak.attention_sink_size", "only a processor, webgpu and mlc have sinks")
            return settings
        return replace(
            settings,
            target=MLC,
            device=weak.device,
            mlc_python=config.mlc.python,
        )


def _target(engine: str, device: str, *, shared: bool) -> str:
    """TVM's kind of target, for a GPU perhaps with its architecture: "cuda:sm_89"."""
    if engine == PROGRAM:
        return PROGRAM
    if engine == "tvm" and device.startswith("metal"):  # named, for else Metal is the engine webgpu's
        return device
    found = _TARGETS.get(device, device)
    return device if shared and found == PROGRAM else found


@dataclass(frozen=True, slots=True)
class Recipe:
    """`source` is where the weights come from: the card's ready ones, or its unquantized originals."""

    card: ModelCard
    source: Source
    quantization: str
    quantizer: str
    target: str
    context_window_size: int
    prefill_chunk_size: int
    max_sequences: int
    device: str = "auto"
    sliding_window_size: int | None = None
    attention_sink_size: int | None = None
    endless: bool = False
    bytes: bool = False
    kv_cache: str = "auto"
    shared: bool = False
    mlc_python: str | None = None
    as_stored: bool = False  # nobody asked for a quantization: ready weights are taken in their own

    def applied(self, config: Mapping[str, object]) -> dict[str, object]:
        """The mlc-chat-config with the recipe's windows.

        What is to be endless gets the context for a window, unless the model has a shorter one of its own.
        """
        inner = {**language_part(cast("Mapping[str, object]", config["model_config"])), **self.windows}
        window, sinks = self.sliding_window_size, self.attention_sink_size
        if self.endless:
            stated = (window, config.get("sliding_window_size"), inner.get("sliding_window"))
            own = (size for size in stated if isinstance(size, int) and size > 0)
            window, sinks = next(own, self.context_window_size), SINK if sinks is None else sinks
            inner["context_window_size"] = ENDLESS
        if self.kv_cache != "auto":
            inner["kv_cache"] = self.kv_cache
        given = {"sliding_window_size": window, "attention_sink_size": sinks}
        top = {name: inner[name] for name in ("context_window_size", "prefill_chunk_size")}
        top |= {name: value for name, value in given.items() if value is not None}
        return {**config, **top, "model_config": inner}

    @property
    def windows(self) -> Mapping[str, int]:
        return {
            "context_window_size": self.context_window_size,
            "prefill_chunk_size": self.prefill_chunk_size,
            "max_batch_size": max(self.max_sequences, TOGETHER),
        }


def _refuse(config: Config, key: str, reason: str) -> NoReturn:
    raise ConfigError(key, config.get(key), reason, config.origin(key))


def doubts(card: ModelCard, settings: BuildSettings) -> Iterator[str]:
    """What is done although it was not quite asked, or asked although it may be unwise; a line each."""
    context = settings.context_window_size or card.context_window_size
    if context > card.max_context:
        yield f"{card.name} was trained for {card.max_context} tokens; a context of {context} is beyond that"
    if settings.prefill_chunk_size is not None and settings.prefill_chunk_size > context:
        yield f"the prefill chunk of {settings.prefill_chunk_size} is cut to the context of {context}"


def recipe(card: ModelCard, settings: BuildSettings) -> Recipe:
    """The settings over the card's defaults. A prefill chunk is never longer than the context."""
    form = settings.quantization or card.quantization
    way = settings.quantizer or cast(str, card.quantizer)
    other = form != card.quantization or way != card.quantizer
    context = settings.context_window_size or card.context_window_size
    return Recipe(
        card=card,
        source=card.original if other and card.original is not None else card.source,
        quantization=form,
        quantizer=way,
        target=settings.target,
        context_window_size=context,
        prefill_chunk_size=min(settings.prefill_chunk_size or card.prefill_chunk_size, context),
        max_sequences=settings.max_sequences,
        device=settings.device,
        sliding_window_size=settings.sliding_window_size,
        attention_sink_size=settings.attention_sink_size,
        endless=settings.endless,
        bytes=settings.bytes,
        kv_cache=settings.kv_cache,
        shared=settings.shared,
        mlc_python=settings.mlc_python,
        as_stored=settings.quantization is None,
    )
