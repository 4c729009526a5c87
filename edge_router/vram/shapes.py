"""What a model's config says of its size: the numbers that memory depends on, and its list of tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from edge_router.architectures import Architecture, architecture
from edge_router.architectures.experts import ExpertSizes
from edge_router.architectures.mixers import Keys, MixerSizes, State
from edge_router.architectures.quantization import Kind
from edge_router.errors import InvalidModel
from edge_router.records import dataclass

_EVERYWHERE = (*(f"norm {where} {what}" for where in ("before", "after") for what in ("attention", "MLP")),)


@dataclass(frozen=True, slots=True)
class TensorShape:
    """`count` tensors of the same shape. `columns` is what one output sums over; 1 row for a vector.

    `read`: of `experts` matrices on top of each other in each, a token takes so many.
    """

    name: str
    kind: Kind
    rows: int
    columns: int
    count: int = 1
    experts: int = 1
    read: int = 1


@dataclass(frozen=True, slots=True)
class ModelShape:
    """`window` is what sliding attention looks back, in tokens, and `windowed_layers` how many layers do so.

    `whole_window`: all that attend, so that older tokens need not be kept. `vectors` are the numbers of one
    layer that are never quantized (norms and biases). `mixed`: of each kind of layers that do not attend its
    name, its sizes and how many there are. `intermediate`: channels of the MLP, of all experts that a token
    takes.
    """

    architecture: Architecture
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    trained_context: int
    vectors: tuple[tuple[str, int], ...]
    window: int | None = None
    windowed_layers: int = 0
    sinks: int = 0
    mixed: tuple[tuple[str, MixerSizes, int], ...] = ()

    @property
    def attention_layers(self) -> int:
        """Those with keys and values."""
        return self.layers - sum(number for *_, number in self.mixed)

    @property
    def states(self) -> tuple[tuple[State, int], ...]:
        """Each with the number of its layers."""
        return tuple((state, number) for _, sizes, number in self.mixed for state in sizes.states)

    @property
    def state_numbers(self) -> int:
        """Of one text, in all layers."""
        return sum(state.numbers * number for state, number in self.states)

    experts: ExpertSizes | None = None

    @property
    def whole_window(self) -> bool:
        return self.window is not None and self.windowed_layers == self.attention_layers

    def sliding(self, window: int, sinks: int) -> ModelShape:
        """With a window for every layer."""
        return replace(self, window=window, windowed_layers=self.attention_layers, sinks=sinks)

    @property
    def query_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        return self.kv_heads * self.head_dim

    @classmethod
    def of(cls, config: Mapping[str, object], where: str) -> ModelShape:
        """`config` has Hugging Face's keys (an MLC `model_config` has nearly the same); `where` names it.

        Raises `UnsupportedArchitecture`, `InvalidModel`.
        """
        inner = config.get("text_config")  # a model that also sees keeps its language part one level down
        if isinstance(inner, Mapping):
            config = {**config, **inner}
        numbers = _Numbers(config, where)
        described = architecture(str(config.get("model_type")))
        heads, hidden = numbers.count("num_attention_heads"), numbers.count("hidden_size")
        kv_heads = numbers.count("num_key_value_heads", heads)
        layers = numbers.count("num_hidden_layers")
        head_dim = numbers.count("head_dim", max(1, hidden // heads))
        if heads % kv_heads:
            raise InvalidModel(where, f"{heads} query heads over {kv_heads} key heads")
        caches = described.layer_caches(config, layers, where)
        windows = [cache.window for cache in caches if isinstance(cache, Keys)]
        windowed = sum(window > 0 for window in windows)
        mixers = [mixer for mixer in described.layer_mixers(config, layers, where) if mixer is not None]
        kinds = {mixer.kind: mixer for mixer in mixers}
        experts = described.experts.sizes(config, where) if described.experts else None
        return cls(
            architecture=described,
            hidden=hidden,
            intermediate=experts.chosen * experts.width if experts else numbers.count("intermediate_size"),
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            vocabulary=numbers.count("vocab_size"),
            tied=bool(config.get("tie_word_embeddings", described.tied)),
            trained_context=numbers.of(
                "max_position_embeddings",
                described.trained_context(config) or config.get("context_window_size") or 1 << 20,
            ),
            vectors=described.vectors(hidden, heads * head_dim, kv_heads * head_dim, head_dim),
            window=max(windows, default=0) or None,
            windowed_layers=windowed,
            sinks=_sinks(config),
            mixed=tuple(
                (mixer.name, mixer.sizes(config, where), mixers.count(mixer)) for mixer in kinds.values()
            ),
            experts=experts,
        )

    @property
    def parameters(self) -> int:
        return sum(tensor.rows * tensor.columns * tensor.count for tensor in self.tensors())

    @property
    def active_parameters(self) -> int:
        """Of which a token reads something: without the experts that it does not take."""
        return sum(
            tensor.rows * tensor.columns * tensor.count * tensor.read // tensor.experts
            for tensor in self.tensors()
        )

    def tensors(self) -> tuple[TensorShape, ...]:
        """Every parameter, fused as MLC fuses them: q, k and v; gate and up."""
        found = [TensorShape("embedding", "embedding", self.vocabulary, self.hidden)]
        for name, size in self.vectors:
            layers = self.layers if name in _EVERYWHERE else self.attention_layers
            found.append(TensorShape(name, "vector", 1, size, layers))
        for name, sizes, layers in self.mixed:
            rows = sum(sizes.inputs.values())
            found += [
                TensorShape(f"{name} in", "linear", rows, self.hidden, layers),
                TensorShape(f"{name} out", "linear", self.hidden, sizes.width, layers),
                *(TensorShape(f"{name} {part}", "vector", 1, math.prod(shape), layers)
                  for part, shape in sizes.vectors.items()),
            ]  # fmt: skip
        gates = self.query_width if self.architecture.gated else 0
        qkv = self.query_width + gates + 2 * self.key_width
        found += [
            TensorShape("attention in", "linear", qkv, self.hidden, self.attention_layers),
            TensorShape("attention out", "linear", self.hidden, self.query_width, self.attention_layers),
            *self._mlp(),
            TensorShape("last norm", "vector", 1, self.hidden),
        ]
        if not self.tied:
            found.append(TensorShape("head", "head", self.vocabulary, self.hidden))
        return tuple(found)

    def _mlp(self) -> tuple[TensorShape, ...]:
        layers, hidden, of = self.layers, self.hidden, self.experts
        if of is None:
            return (
                TensorShape("gate and up", "linear", 2 * self.intermediate, hidden, layers),
                TensorShape("down", "linear", hidden, self.intermediate, layers),
            )
        return (
            TensorShape("router", "router", of.count, hidden, layers),
            TensorShape(
                "gate and up", "linear", of.count * 2 * of.width, hidden, layers, of.count, of.chosen
            ),
            TensorShape("down", "linear", of.count * hidden, of.width, layers, of.count, of.chosen),
        )


class _Numbers:
    def __init__(self, config: Mapping[str, object], where: str) -> None:
        self._config, self._where = config, where

    def count(self, key: str, default: int | None = None) -> int:
        value = self._config.get(key)
        return self.of(key, default if value is None else value)

    def of(self, key: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidModel(self._where, f"{key} is {value!r}, not a positive whole number")
        return value


def _sinks(config: Mapping[str, object]) -> int:
    """Tokens of the window that always stay; MLC writes -1 for none."""
    stated = config.get("attention_sink_size")
    return stated if isinstance(stated, int) and stated > 0 else 0
