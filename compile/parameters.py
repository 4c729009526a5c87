"""Which tensors of a checkpoint make which parameters of a compiled model.

A compiled model fuses what is always multiplied together (q, k and v; gate and up), as MLC does, and under
MLC's names. Nothing here imports TVM, so weights can be quantized without loading the compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from edge_router.compile.readers.base import WeightsReader
from edge_router.errors import InvalidModel, UnsupportedArchitecture

Kind = Literal["linear", "embedding", "head", "vector"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """`name` is MLC's without its last word (weight, q_weight, q_scale).

    `sources` are the checkpoint's tensors, whose rows follow one another; `shape` is the whole. `feeder` is
    the checkpoint's tensor whose row (or number) i scales this parameter's column i and nothing else.
    """

    name: str
    sources: tuple[str, ...]
    source_rows: tuple[int, ...]
    shape: tuple[int, ...]
    kind: Kind
    feeder: str | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers of a Llama-type model, out of Hugging Face's config. Raises `InvalidModel`."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool

    @classmethod
    def of(cls, config: Mapping[str, object], where: str) -> Sizes:
        def number(key: str, default: int | None = None) -> int:
            value = config.get(key)
            if value is None:
                value = default
            if not isinstance(value, int) or value < 1:
                raise InvalidModel(where, f"{key} is {value!r}, not a positive whole number")
            return value

        heads, hidden = number("num_attention_heads"), number("hidden_size")
        sizes = cls(
            hidden=hidden,
            intermediate=number("intermediate_size"),
            layers=number("num_hidden_layers"),
            heads=heads,
            kv_heads=number("num_key_value_heads", heads),
            head_dim=number("head_dim", hidden // heads),
            vocabulary=number("vocab_size"),
            tied=bool(config.get("tie_word_embeddings", False)),
        )
        if sizes.heads % sizes.kv_heads:
            raise InvalidModel(where, f"{sizes.heads} query heads over {sizes.kv_heads} key heads")
        return sizes


def parameters(config: Mapping[str, object], where: str) -> tuple[Parameter, ...]:
    """Every parameter of the model that `config` (Hugging Face's keys) describes.

    `where` names it in errors. Raises `UnsupportedArchitecture`, `InvalidModel`.
    """
    architecture = str(config.get("model_type"))
    if architecture not in _ARCHITECTURES:
        raise UnsupportedArchitecture(architecture, tuple(_ARCHITECTURES))
    return _ARCHITECTURES[architecture](config, where)


def check(reader: WeightsReader, wanted: tuple[Parameter, ...], config: Mapping[str, object]) -> None:
    """That the checkpoint holds just these tensors in these shapes. Raises `InvalidModel`, naming them."""
    held = reader.tensors
    sources = {
        source: (rows, *parameter.shape[1:])
        for parameter in wanted
        for source, rows in zip(parameter.sources, parameter.source_rows, strict=True)
    }
    missing = [name for name in sources if name not in held]
    if missing:
        raise InvalidModel(reader.source, f"{len(missing)} tensors are missing: {_some(missing)}")
    wrong = [
        f"{name} is {held[name].shape} and should be {shape}"
        for name, shape in sources.items()
        if held[name].shape != shape
    ]
    if wrong:
        raise InvalidModel(reader.source, f"shapes contradict the configuration: {_some(wrong)}")
    unused = [name for name in held if name not in sources and not _derived(name, config)]
    if unused:
        raise InvalidModel(
            reader.source, f"{len(unused)} tensors have no place in {config['model_type']}: {_some(unused)}"
        )


def _llama(config: Mapping[str, object], where: str) -> tuple[Parameter, ...]:
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            raise InvalidModel(where, f"{key} is set, which no supported architecture has")
    size = Sizes.of(config, where)
    table = (size.vocabulary,)
    found = [_fused("model.embed_tokens", ("model.embed_tokens",), table, size.hidden, "embedding")]
    for number in range(size.layers):
        found += _llama_layer(f"model.layers.{number}", size)
    found.append(_vector("model.norm", size.hidden))
    if not size.tied:
        found.append(_fused("lm_head", ("lm_head",), table, size.hidden, "head"))
    return tuple(found)


def _llama_layer(layer: str, size: Sizes) -> list[Parameter]:
    query, key = size.heads * size.head_dim, size.kv_heads * size.head_dim
    attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
    before, after = f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm"
    parts = tuple(f"{attention}.{part}_proj" for part in "qkv")
    up = f"{mlp}.up_proj"
    halves = (f"{mlp}.gate_proj", up)
    return [
        _vector(before, size.hidden),
        _fused(f"{attention}.qkv_proj", parts, (query, key, key), size.hidden, feeder=before),
        _fused(f"{attention}.o_proj", (f"{attention}.o_proj",), (size.hidden,), query),
        _vector(after, size.hidden),
        _fused(f"{mlp}.gate_up_proj", halves, (size.intermediate,) * 2, size.hidden, feeder=after),
        _fused(
            f"{mlp}.down_proj", (f"{mlp}.down_proj",), (size.hidden,), size.intermediate, feeder=halves[1]
        ),
    ]


def _fused(
    name: str,
    sources: tuple[str, ...],
    rows: tuple[int, ...],
    columns: int,
    kind: Kind = "linear",
    feeder: str | None = None,
) -> Parameter:
    names = tuple(f"{source}.weight" for source in sources)
    fed = feeder and f"{feeder}.weight"
    return Parameter(name, names, rows, (sum(rows), columns), kind, fed)


def _vector(name: str, size: int) -> Parameter:
    return Parameter(name, (f"{name}.weight",), (size,), (size,), "vector")


def _derived(name: str, config: Mapping[str, object]) -> bool:
    """Tensors that some checkpoints carry although the configuration already says what they hold."""
    tied = name == "lm_head.weight" and bool(config.get("tie_word_embeddings"))
    return tied or name == "rope_freqs.weight" or name.endswith(".rotary_emb.inv_freq")


def _some(items: list[str]) -> str:
    return "; ".join(items[:4]) + (f"; and {len(items) - 4} more" if len(items) > 4 else "")


_ARCHITECTURES: Mapping[str, Callable[[Mapping[str, object], str], tuple[Parameter, ...]]] = {"llama": _llama}


def count(wanted: tuple[Parameter, ...]) -> int:
    """Numbers in the unquantized model."""
    return sum(math.prod(parameter.shape) for parameter in wanted)
