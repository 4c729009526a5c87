"""The numbers of a decoder-only model, from `model_config` of an mlc-chat-config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import cast

from edge_router.compile.rotary import Rotary, rotary
from edge_router.errors import InvalidModel
from edge_router.records import dataclass

_WIDTH = 8  # of which every matrix's columns must be a multiple
_GROUP = 32  # weights with one scale: likewise on a GPU, whose kernels read whole groups only


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """MLC's keys. `sliding_window_size` and `attention_sink_size` are -1 where not all layers have a window.

    `layer_window` is that of the layers that are made with one. What turns positions into angles is read by
    `compile.rotary`.
    """

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_hidden_layers: int
    rms_norm_eps: float
    vocab_size: int
    context_window_size: int
    prefill_chunk_size: int
    num_key_value_heads: int
    head_dim: int
    position_embedding_base: float = 10000.0
    rope_scaling: Mapping[str, object] | None = None
    partial_rotary_factor: float = 1.0
    max_position_embeddings: int | None = None
    original_max_position_embeddings: int | None = None
    tie_word_embeddings: bool = False
    max_batch_size: int = 1
    sliding_window_size: int = -1
    attention_sink_size: int = -1
    attn_logit_softcapping: float | None = None
    layer_window: int = 0

    @property
    def score_cap(self) -> float:
        return self.attn_logit_softcapping or 0.0

    @property
    def slides(self) -> bool:
        """Whether every layer looks back no farther than a window: what lies before it can be forgotten."""
        return 0 < self.sliding_window_size < self.context_window_size

    @property
    def sinks(self) -> int:
        """Tokens at the start that are never forgotten, where others are."""
        return max(0, self.attention_sink_size) if self.slides else 0

    @classmethod
    def read(cls, values: Mapping[str, object], where: str) -> DecoderConfig:
        """`where` names the model in errors. Raises `InvalidModel` on gaps and contradictions."""
        known = {field.name for field in fields(cls)}
        given = {name: value for name, value in values.items() if name in known and value is not None}
        if values.get("rope_theta"):  # so it is called where MLC's config has Hugging Face's keys
            given.setdefault("position_embedding_base", values["rope_theta"])
        hidden, heads = values.get("hidden_size"), values.get("num_attention_heads")
        if isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
            given.setdefault("head_dim", hidden // heads)
            given.setdefault("num_key_value_heads", heads)
        missing = [f.name for f in fields(cls) if f.name not in given and f.name in _REQUIRED]
        if missing:
            raise InvalidModel(where, f"model_config lacks {', '.join(missing)}")
        for name in _REQUIRED:
            value = given[name]
            if name in _REALS:
                good = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
            else:
                good = isinstance(value, int) and not isinstance(value, bool) and value > 0
            if not good:
                raise InvalidModel(where, f"{name} is {value!r}")
        config = cls(**given)  # type: ignore[arg-type]
        config._check(values, where)
        return replace(config, layer_window=config.sliding_window_size) if config.slides else config

    def _check(self, values: Mapping[str, object], where: str) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise InvalidModel(
                where, f"{self.num_attention_heads} query heads over {self.num_key_value_heads} key heads"
            )
        if self.head_dim % 8:
            raise InvalidModel(where, f"head_dim {self.head_dim} is no multiple of 8")
        if self.prefill_chunk_size > self.context_window_size:
            raise InvalidModel(
                where,
                f"prefill_chunk_size {self.prefill_chunk_size} is more than "
                f"context_window_size {self.context_window_size}",
            )
        if self.slides and self.attention_sink_size >= self.sliding_window_size:
            raise InvalidModel(
                where,
                f"attention_sink_size {self.attention_sink_size} leaves nothing of "
                f"sliding_window_size {self.sliding_window_size}",
            )
        for name in ("tensor_parallel_shards", "pipeline_parallel_stages"):
            if values.get(name, 1) != 1:
                raise InvalidModel(where, f"{name} is {values[name]!r}; models are not split here")
        active = values.get("active_vocab_size")
        if active is not None and (not isinstance(active, int) or isinstance(active, bool) or active < 1):
            raise InvalidModel(where, f"active_vocab_size is {active!r}")
        self._check_widths(_WIDTH, "", where)

    def check_groups(self, where: str) -> None:
        """That groups divide each matrix's rows. Raises `InvalidModel`."""
        self._check_widths(_GROUP, ", which only a processor fills up", where)

    def _check_widths(self, unit: int, more: str, where: str) -> None:
        for name, columns in (
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads * head_dim", self.num_attention_heads * self.head_dim),
        ):
            if columns % unit:
                raise InvalidModel(where, f"{name} is {columns}, no multiple of {unit}{more}")

    def rotary(self, where: str) -> Rotary:
        """Raises `InvalidModel`."""
        return rotary(
            {
                "rope_theta": self.position_embedding_base,
                "rope_scaling": self.rope_scaling,
                "partial_rotary_factor": self.partial_rotary_factor,
                "max_position_embeddings": self.max_position_embeddings,
                "original_max_position_embeddings": self.original_max_position_embeddings,
                "context_window_size": self.sliding_window_size if self.slides else self.context_window_size,
            },
            self.head_dim,
            where,
        )


_REALS = ("rms_norm_eps", "position_embedding_base")
_REQUIRED = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "rms_norm_eps",
    "vocab_size",
    "context_window_size",
    "prefill_chunk_size",
    "num_key_value_heads",
    "head_dim",
)


def number(values: Mapping[str, object], name: str, default: float) -> float:
    """An optional number of an architecture's own."""
    return float(cast(float, values.get(name) or default))
