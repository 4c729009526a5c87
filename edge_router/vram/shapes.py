"""What a model's config says of its size: the numbers that memory depends on, and its list of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edge_router.architectures import Architecture, architecture
from edge_router.architectures.quantization import Kind
from edge_router.errors import InvalidModel
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class Tensor:
    """`count` tensors of the same shape. `columns` is what one output sums over; 1 row for a vector."""

    name: str
    kind: Kind
    rows: int
    columns: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class ModelShape:
    """`window` is what sliding attention looks back, in tokens, and `windowed_layers` how many layers do so.

    `whole_window`: all of them, so that older tokens need not be kept. `vectors` are the numbers of one
    layer that are never quantized (norms and biases).
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

    @property
    def whole_window(self) -> bool:
        return self.window is not None and self.windowed_layers == self.layers

    def sliding(self, window: int, sinks: int) -> ModelShape:
        """With a window for every layer."""
        return replace(self, window=window, windowed_layers=self.layers, sinks=sinks)

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
        windows = described.layer_windows(config, layers)
        windowed = sum(window > 0 for window in windows)
        return cls(
            architecture=described,
            hidden=hidden,
            intermediate=numbers.count("intermediate_size"),
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
            window=max(windows) or None,
            windowed_layers=windowed,
            sinks=_sinks(config),
        )

    @property
    def parameters(self) -> int:
        return sum(tensor.rows * tensor.columns * tensor.count for tensor in self.tensors())

    def tensors(self) -> tuple[Tensor, ...]:
        """Every parameter, fused as MLC fuses them: q, k and v; gate and up."""
        found = [Tensor("embedding", "embedding", self.vocabulary, self.hidden)]
        for name, size in self.vectors:
            found.append(Tensor(name, "vector", 1, size, self.layers))
        qkv = self.query_width + 2 * self.key_width
        found += [
            Tensor("attention in", "linear", qkv, self.hidden, self.layers),
            Tensor("attention out", "linear", self.hidden, self.query_width, self.layers),
            Tensor("gate and up", "linear", 2 * self.intermediate, self.hidden, self.layers),
            Tensor("down", "linear", self.hidden, self.intermediate, self.layers),
            Tensor("last norm", "vector", 1, self.hidden),
        ]
        if not self.tied:
            found.append(Tensor("head", "head", self.vocabulary, self.hidden))
        return tuple(found)


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
