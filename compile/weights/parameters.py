"""Which tensors of a checkpoint make which parameters of a compiled model.

A compiled model fuses what is always multiplied together (q, k and v; gate and up), as MLC does, and under
MLC's names. Nothing here imports TVM, so weights can be quantized without loading the compiler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from edge_router.architectures import Architecture, architecture
from edge_router.architectures.experts import ExpertSizes
from edge_router.architectures.mixers import Mixer, MixerSizes
from edge_router.architectures.quantization import Kind
from edge_router.compile.readers.base import WeightsReader
from edge_router.compile.rotary import rotary
from edge_router.errors import InvalidModel
from edge_router.records import dataclass

_MLP_NORMS = ("pre_feedforward_layernorm", "post_feedforward_layernorm")


@dataclass(frozen=True, slots=True)
class Parameter:
    """`name` is MLC's without its last word (weight, q_weight, q_scale).

    `sources` are the checkpoint's tensors, whose rows follow one another; `shape` is the whole. `feeder` is
    the checkpoint's tensor whose row (or number) i scales this parameter's column i and nothing else. `word`
    is the last one of an unquantized parameter's name; `plus` is added to each of its numbers.
    """

    name: str
    sources: tuple[str, ...]
    source_rows: tuple[int, ...]
    shape: tuple[int, ...]
    kind: Kind
    feeder: str | None = None
    word: str = "weight"
    plus: float = 0.0

    @property
    def columns(self) -> tuple[int, ...]:
        """Of a row of a matrix, or of all matrices on top of each other; () for a vector."""
        return self.shape[1:][-1:]


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
    experts: ExpertSizes | None = None

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

    def of_experts(self, kind: Architecture, config: Mapping[str, object], where: str) -> Sizes:
        """With those of its experts, if it has any. Raises `InvalidModel`."""
        return replace(self, experts=kind.experts.sizes(config, where)) if kind.experts else self


def parameters(config: Mapping[str, object], where: str) -> tuple[Parameter, ...]:
    """Every parameter of the model that `config` (Hugging Face's keys) describes.

    `where` names it in errors. Raises `UnsupportedArchitecture`, `InvalidModel`.
    """
    return _described(config, where, architecture(str(config.get("model_type"))))


def check(reader: WeightsReader, wanted: tuple[Parameter, ...], config: Mapping[str, object]) -> None:
    """That the checkpoint holds just these tensors in these shapes. Raises `InvalidModel`, naming them."""
    held = reader.tensors
    sources = {
        source: (rows, *parameter.columns)
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


def _described(config: Mapping[str, object], where: str, kind: Architecture) -> tuple[Parameter, ...]:
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            raise InvalidModel(where, f"{key} is set, which no supported architecture has")
    if "partial_rotary_factor" not in kind.keys and (turned := config.get("partial_rotary_factor") or 1) != 1:
        raise InvalidModel(
            where, f"partial_rotary_factor is {turned}, which {config['model_type']} does not have"
        )
    key = "hidden_activation" if "hidden_activation" in kind.keys else "hidden_act"
    gate = config.get(key) or kind.gates[0]
    if gate not in kind.gates:
        theirs, ours = repr(gate)[:40], kind.gates[0]
        raise InvalidModel(where, f"{key} is {theirs}, and {config['model_type']} is computed with {ours}")
    if not isinstance(config.get("rms_norm_eps"), int | float):
        raise InvalidModel(where, f"rms_norm_eps is {config.get('rms_norm_eps')!r}, not a number")
    size = Sizes.of({"tie_word_embeddings": kind.tied, **config}, where).of_experts(kind, config, where)
    rotary(config, size.head_dim, where)
    embedding = ("model.embed_tokens.weight",)
    shape = (size.vocabulary, size.hidden)
    found = [
        Parameter(f"{kind.names.body}.{kind.names.embedding}", embedding, shape[:1], shape, "embedding"),
    ]
    for number, mixer in enumerate(kind.layer_mixers(config, size.layers, where)):
        name = f"{kind.names.body}.{kind.names.layers}.{number}"
        mixed = None if mixer is None else (mixer, mixer.sizes(config, where))
        layer = _Layer(f"model.layers.{number}", name, size, kind, mixed)
        found += layer.parameters()
    found.append(_vector(f"{kind.names.body}.norm", "model.norm", size.hidden, kind))
    if not size.tied:
        found.append(Parameter("lm_head", ("lm_head.weight",), shape[:1], shape, "head"))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Layer:
    """`source` is its name in the checkpoint, `name` MLC's."""

    source: str
    name: str
    size: Sizes
    kind: Architecture
    mixed: tuple[Mixer, MixerSizes] | None = None

    def parameters(self) -> list[Parameter]:
        norms = self.kind.norms
        around = [name for name in _MLP_NORMS if norms == "around" or (norms == "after" and "post" in name)]
        return [
            *([] if norms == "after" else [self._norm(self.kind.names.before, "input_layernorm")]),
            *(self._attention() if self.mixed is None else self._mixer(*self.mixed)),
            self._norm("post_attention_layernorm", "post_attention_layernorm"),
            *(self._norm(name, name) for name in around),
            *self._mlp(),
        ]

    def _mlp(self) -> list[Parameter]:
        size = self.size
        if size.experts is None:
            shape = (size.hidden, size.intermediate)
            return [self._gate_up(), self._linear("mlp.down_proj", "mlp.down_proj", shape, by_up=True)]
        named, width = self.kind.experts, size.experts.width
        assert named is not None
        return [
            Parameter(
                f"{self.name}.mlp.{named.router}",
                (f"{self.source}.mlp.{named.router}.weight",),
                (size.experts.count,),
                (size.experts.count, size.hidden),
                "router",
            ),
            self._of_experts(named.gate_up, ("gate_proj", "up_proj"), (width, size.hidden)),
            self._of_experts(named.down, ("down_proj",), (size.hidden, width)),
        ]

    def _of_experts(self, name: str, parts: tuple[str, ...], each: tuple[int, int]) -> Parameter:
        """One expert's matrices after the other's, `each` of that shape."""
        assert self.size.experts is not None
        count, (rows, columns) = self.size.experts.count, each
        sources = tuple(
            f"{self.source}.mlp.experts.{expert}.{part}.weight" for expert in range(count) for part in parts
        )
        shape = (count, rows * len(parts), columns)
        return Parameter(f"{self.name}.mlp.{name}", sources, (rows,) * len(sources), shape, "linear")

    def _attention(self) -> list[Parameter]:
        size, names = self.size, self.kind.names
        name, source = f"{self.name}.{names.attention}", f"{self.source}.self_attn"
        query, key = size.heads * size.head_dim, size.kv_heads * size.head_dim
        out = self._linear(f"{names.attention}.{names.out}", "self_attn.o_proj", (size.hidden, query))
        each = self.kind.head_norms == "each"
        norms = {} if self.kind.head_norms == "none" else {"q": query, "k": key}
        queries = 2 * query if self.kind.gated else query
        return [
            *self._queries_keys_values(name, source, {"q": queries, "k": key, "v": key}),
            out,
            *(
                _vector(f"{name}.{p}_norm", f"{source}.{p}_norm", size.head_dim if each else width, self.kind)
                for p, width in norms.items()
            ),
        ]

    def _mixer(self, mixer: Mixer, sizes: MixerSizes) -> list[Parameter]:
        name, source = f"{self.name}.{mixer.name}", f"{self.source}.{mixer.name}"
        rows = tuple(sizes.inputs.values())
        inputs = tuple(f"{source}.{part}.weight" for part in sizes.inputs)
        shape = (sum(rows), self.size.hidden)
        fed = self._feeder(f"{self.source}.input_layernorm.weight")
        found = [Parameter(f"{name}.{mixer.inputs}", inputs, rows, shape, "linear", fed)]
        for vector, size in sizes.vectors.items():
            stem, _, word = f"{name}.{vector}".rpartition(".")
            found.append(Parameter(stem, (f"{source}.{vector}",), size[:1], size, "vector", word=word))
        out = f"{mixer.name}.{mixer.out}"
        return [*found, self._linear(out, out, (self.size.hidden, sizes.width))]

    def _queries_keys_values(self, name: str, source: str, rows: Mapping[str, int]) -> list[Parameter]:
        size, kind = self.size, self.kind
        if kind.split:
            return [
                self._linear(f"{kind.names.attention}.{p}_proj", f"self_attn.{p}_proj", (count, size.hidden))
                for p, count in rows.items()
            ]
        each = {f"{source}.{p}_proj": count for p, count in rows.items()}
        if kind.fused:
            each = {f"{source}.qkv_proj": sum(rows.values())}
        counts, shape = tuple(each.values()), (sum(rows.values()), size.hidden)
        qkv, fed = f"{name}.{kind.names.qkv}", self._feeder(f"{self.source}.input_layernorm.weight")
        weights, biases = (tuple(f"{part}.{word}" for part in each) for word in ("weight", "bias"))
        found = [Parameter(qkv, weights, counts, shape, "linear", fed)]
        if kind.bias:
            found.append(Parameter(qkv, biases, counts, shape[:1], "vector", word="bias"))
        return found

    def _gate_up(self) -> Parameter:
        mlp, inner = f"{self.source}.mlp", self.size.intermediate
        parts: tuple[str, ...] = (f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight")
        rows: tuple[int, ...] = (inner, inner)
        if self.kind.fused or self.kind.fused_mlp:
            parts, rows = (f"{mlp}.gate_up_proj.weight",), (2 * inner,)
        shape = (2 * inner, self.size.hidden)
        before = "pre_feedforward_layernorm" if self.kind.norms == "around" else "post_attention_layernorm"
        fed = self._feeder(f"{self.source}.{before}.weight")
        return Parameter(f"{self.name}.mlp.gate_up_proj", parts, rows, shape, "linear", fed)

    def _feeder(self, norm: str) -> str | None:
        """Dividing its weight divides no norm that adds 1 to that, nor one that comes after."""
        return None if self.kind.plus_one or self.kind.norms == "after" else norm

    def _linear(self, name: str, source: str, shape: tuple[int, int], *, by_up: bool = False) -> Parameter:
        fed = (
            f"{self.source}.mlp.up_proj.weight"
            if by_up and not (self.kind.fused or self.kind.fused_mlp)
            else None
        )
        weights = (f"{self.source}.{source}.weight",)
        return Parameter(f"{self.name}.{name}", weights, shape[:1], shape, "linear", fed)

    def _norm(self, name: str, source: str) -> Parameter:
        return _vector(f"{self.name}.{name}", f"{self.source}.{source}", self.size.hidden, self.kind)


def _vector(name: str, source: str, size: int, kind: Architecture) -> Parameter:
    plus = 1.0 if kind.plus_one else 0.0
    return Parameter(name, (f"{source}.weight",), (size,), (size,), "vector", plus=plus)


def _derived(name: str, config: Mapping[str, object]) -> bool:
    """Tensors that some checkpoints carry although the configuration already says what they hold."""
    tied = name == "lm_head.weight" and is_tied(config)
    return tied or name == "rope_freqs.weight" or name.endswith(".rotary_emb.inv_freq")


def _some(items: list[str]) -> str:
    return "; ".join(items[:4]) + (f"; and {len(items) - 4} more" if len(items) > 4 else "")


def is_tied(config: Mapping[str, object]) -> bool:
    """Whether the embedding is also what the last states are multiplied with."""
    return bool(config.get("tie_word_embeddings", architecture(str(config.get("model_type"))).tied))


def count(wanted: tuple[Parameter, ...]) -> int:
    """Numbers in the unquantized model."""
    return sum(math.prod(parameter.shape) for parameter in wanted)
