"""An architecture in data: what it is called, what it holds, what each layer sees and how it turns.

Everything that needs to know one reads it here: the planner, the readers, the packer, the numpy reference
and the graphs that are compiled. Nothing here imports TVM or numpy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Literal, cast

from edge_router.architectures.experts import Experts
from edge_router.architectures.gguf_names import GgufNames
from edge_router.architectures.mixers import Keys, LayerCache, Mixer, States
from edge_router.errors import InvalidModel
from edge_router.records import dataclass

# Where a layer normalises: what goes into attention and MLP, what comes out of them, or both.
Norms = Literal["before", "after", "around"]
# Each query and key by itself, or all of a token's queries (and keys) as one vector.
HeadNorms = Literal["none", "each", "all"]
# Which layers have the window that a config states: none, all of them, or those that `layer_types` names.
Windowed = Literal["none", "all", "some"]
# Which layers turn by position: all alike; those with a window by a base of their own; only those with a
# window, where there are any; those that `no_rope_layers` names; all or none by `position_embedding_type`.
Turns = Literal["alike", "near and far", "near only", "listed", "stated"]
# How one layer turns: as the config says, by its base for near tokens, or not at all.
Turn = Literal["far", "near", "none"]
_HAVE_EXPERTS = ("llvm", "webgpu")
_SLIDING = "sliding_attention"  # of `layer_types`
_LAYER = re.compile(r"model\.layers\.\d+\.")


def _unchanged(config: Mapping[str, object]) -> dict[str, object]:
    return dict(config)


@dataclass(frozen=True, slots=True)
class ParameterNames:
    """MLC's names of a model's parts, which are Llama's in a checkpoint, whatever the architecture."""

    body: str = "model"
    embedding: str = "embed_tokens"
    layers: str = "layers"
    attention: str = "self_attn"
    qkv: str = "qkv_proj"
    out: str = "o_proj"
    before: str = "input_layernorm"


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder with Llama's layers but for what is said here. `mlc_type` is MLC's name, where it is another.

    `keys` are config.json's that MLC's `model_config` holds, too; one that is not among them means nothing
    here, even where a config states it. `every`: one in how many layers sees (or turns) otherwise, where the
    config does not say which. `graph`: "module:function" of what builds the model out of a target's parts.
    `mixers` stand in attention's place in the layers that `layer_types` calls so. `checkpoint`: its tensors'
    names in a checkpoint, without layer and last word, with Llama's; `inner` begins those of a model that
    also sees, and `skipped` what that holds beside; `plain`: from config.json to the keys that all have.
    """

    model_type: str
    mlc_type: str = ""
    graph: str = "edge_router.compile.graphs.decoder:decoder"
    names: ParameterNames = ParameterNames()
    gguf: GgufNames | None = None
    norms: Norms = "before"
    head_norms: HeadNorms = "none"
    bias: bool = False  # of queries, keys and values
    gated: bool = False  # what attention gives is multiplied by the sigmoid of a gate, beside each query
    fused: bool = False  # the checkpoint holds q, k and v in one tensor, gate and up in another
    fused_mlp: bool = False  # gate and up alone
    split: bool = False  # MLC, too, keeps q, k and v apart
    plus_one: bool = False  # norms multiply by 1 + weight; MLC stores the sum
    tied: bool = False  # where config.json leaves it open
    embeds_by_root: bool = False  # embeddings times the root of their width
    gates: tuple[str, ...] = ("silu", "swish")  # the function that the gate goes through, by all its names
    windowed: Windowed = "none"
    turns: Turns = "alike"
    every: int = 0
    experts: Experts | None = None  # the MLP is made of many, of which a token takes a few
    near_base: float | None = None  # of layers that turn for near tokens, else the config's `rope_theta`
    keys: tuple[str, ...] = field(default=())
    mixers: tuple[Mixer, ...] = ()
    checkpoint: Mapping[str, str] = field(default_factory=dict)
    inner: str = ""
    skipped: tuple[str, ...] = ()
    plain: Callable[[Mapping[str, object]], dict[str, object]] = _unchanged

    @property
    def types(self) -> tuple[str, ...]:
        """Its names in `model_type`: Hugging Face's, and MLC's where that is another."""
        return (self.model_type, self.mlc_type) if self.mlc_type else (self.model_type,)

    def lacking(self, kind: str) -> str:
        """What its layers do and kernels of this kind ("llvm", "webgpu", "cuda") do not; "" for nothing."""
        states = bool(self.mixers) and kind != "llvm"
        experts = self.experts is not None and kind not in _HAVE_EXPERTS
        return "keep states" if states else "have experts" if experts else ""

    def layer_windows(self, config: Mapping[str, object], layers: int) -> tuple[int, ...]:
        """How many tokens each layer looks back at, itself among them; 0 where at all.

        `config` has Hugging Face's keys or those of MLC's `model_config`. A `sliding_window_size`, which a
        user or MLC states, is every layer's, but for those whose other layers must see everything.
        """
        own = _positive(config.get("sliding_window")) if self.windowed != "none" else 0
        if self.windowed == "some":
            return tuple(own if near else 0 for near in self._near(config, layers))
        return (_positive(config.get("sliding_window_size")) or own,) * layers

    def layer_mixers(self, config: Mapping[str, object], layers: int, where: str) -> tuple[Mixer | None, ...]:
        """What each layer has in attention's place; None where it attends. Raises `InvalidModel`."""
        if not self.mixers:
            return (None,) * layers
        kinds, known = config.get("layer_types"), {mixer.kind: mixer for mixer in self.mixers}
        words = {*known, "full_attention", "attention"}
        if not isinstance(kinds, list) or len(kinds) != layers or not words.issuperset(map(str, kinds)):
            stated = ", ".join(sorted(words))
            raise InvalidModel(
                where, f"layer_types does not have one of {stated} for each of {layers} layers"
            )
        return tuple(known.get(str(kind)) for kind in kinds)

    def layer_caches(self, config: Mapping[str, object], layers: int, where: str) -> tuple[LayerCache, ...]:
        """What each layer keeps of the tokens so far. Raises `InvalidModel`."""
        mixers = self.layer_mixers(config, layers, where)
        return tuple(
            Keys(window) if mixer is None else States(mixer.sizes(config, where).states)
            for mixer, window in zip(mixers, self.layer_windows(config, layers), strict=True)
        )

    def checkpoint_name(self, name: str) -> str:
        """A tensor's name as Llama's checkpoints would have it."""
        if self.inner and name.startswith(self.inner):
            name = f"model.{name.removeprefix(self.inner)}"
        stem, dot, word = name.rpartition(".")
        found = _LAYER.match(name)
        layer = found.group() if found else ""
        return f"{layer}{self.checkpoint.get(stem[len(layer) :], stem[len(layer) :])}{dot}{word}"

    def layer_turns(self, config: Mapping[str, object], layers: int) -> tuple[Turn, ...]:
        """How each layer turns queries and keys by their positions."""
        if self.turns == "alike":
            return _either([True] * layers, "far", "none")
        if self.turns == "stated":
            return _either([config.get("position_embedding_type") == "rope"] * layers, "far", "none")
        if self.turns == "listed":
            stated = config.get("no_rope_layers")
            if isinstance(stated, list) and len(stated) == layers:
                return _either(stated, "far", "none")
            every = _positive(config.get("no_rope_layer_interval")) or self.every
            return _either([(layer + 1) % every for layer in range(layers)], "far", "none")
        near = self._near(config, layers)
        if self.turns == "near and far":
            return _either(near, "near", "far")
        return _either(near if any(near) else [True] * layers, "far", "none")

    def near_rope(self, config: Mapping[str, object]) -> dict[str, object]:
        """`config` as layers that turn for near tokens read it: another base, and no scaling."""
        base = config.get("rope_local_base_freq") or self.near_base
        return {**config, **({"rope_theta": base} if base else {}), "rope_scaling": None}

    def _near(self, config: Mapping[str, object], layers: int) -> tuple[bool, ...]:
        if not config.get("sliding_window"):
            return (False,) * layers
        kinds = config.get("layer_types")
        if isinstance(kinds, list) and len(kinds) == layers:
            return tuple(kind == _SLIDING for kind in kinds)
        pattern = config.get("sliding_window_pattern")
        if isinstance(pattern, str) and pattern:  # L for a window, G for none, over and over
            last = layers - 1
            return tuple(pattern[at % len(pattern)] == "L" and at != last for at in range(layers))
        every = pattern if isinstance(pattern, int) and pattern > 0 else self.every
        return tuple((layer + 1) % every != 0 for layer in range(layers))

    def embedding_scale(self, config: Mapping[str, object]) -> float:
        """What embeddings are multiplied by."""
        by = math.sqrt(cast(int, config["hidden_size"])) if self.embeds_by_root else 1.0
        return self._own(config, "embedding_multiplier", by)

    def residual_scale(self, config: Mapping[str, object]) -> float:
        """What attention and MLP give is multiplied by before it is added to the stream."""
        return self._own(config, "residual_multiplier", 1.0)

    def score_scale(self, config: Mapping[str, object], head_dim: int) -> float:
        """What products of queries and keys are multiplied by: else 1 over the root of a head's width."""
        scalar = self._own(config, "query_pre_attn_scalar", head_dim)
        return self._own(config, "attention_multiplier", float(scalar**-0.5))

    def logit_scale(self, config: Mapping[str, object]) -> float:
        return 1 / self._own(config, "logits_scaling", 1.0)

    def score_cap(self, config: Mapping[str, object]) -> float:
        """No score exceeds it; 0 where there is none."""
        return self._own(config, "attn_logit_softcapping", 0.0)

    def logit_cap(self, config: Mapping[str, object]) -> float:
        return self._own(config, "final_logit_softcapping", 0.0)

    def trained_context(self, config: Mapping[str, object]) -> object:
        """Tokens that the model was made for and that we compute exactly; None where nothing says so.

        With `llama_4_scaling_beta` scores change beyond the original positions, which no engine here does.
        """
        scaling = config.get("rope_scaling")
        if isinstance(scaling, Mapping) and scaling.get("llama_4_scaling_beta"):
            return scaling.get("original_max_position_embeddings")
        return config.get("max_position_embeddings")

    def vectors(self, hidden: int, query: int, key: int, head_dim: int) -> tuple[tuple[str, int], ...]:
        """The numbers of one layer that are never quantized, by their names; arguments are widths."""
        found = []
        if self.norms != "after":
            found += [("norm before attention", hidden), ("norm before MLP", hidden)]
        if self.norms != "before":
            found += [("norm after attention", hidden), ("norm after MLP", hidden)]
        if self.bias:
            found.append(("attention bias", query + 2 * key))
        if self.head_norms != "none":
            widths = (head_dim, head_dim) if self.head_norms == "each" else (query, key)
            found += [("query norm", widths[0]), ("key norm", widths[1])]
        return tuple(found)

    def _own(self, config: Mapping[str, object], key: str, default: float) -> float:
        """A number that a config may state, where it means something to this architecture."""
        stated = config.get(key) if key in self.keys else None
        return float(cast(float, stated)) if stated else default


def _either(which: Sequence[object], so: Turn, else_: Turn) -> tuple[Turn, ...]:
    return tuple(so if one else else_ for one in which)


def _positive(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
