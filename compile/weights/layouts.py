"""What each architecture calls its parameters, in the checkpoint and in MLC, and which it has beside Llama's.

Nothing here imports TVM.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from edge_router import plugins
from edge_router.errors import UnsupportedArchitecture
from edge_router.records import dataclass
from edge_router.registry import Registry


@dataclass(frozen=True, slots=True)
class Layout:
    """Names are MLC's where they differ from the checkpoint's, which are always those of Llama.

    `keys` are config.json's that MLC's `model_config` holds for this architecture, too.
    """

    body: str = "model"
    embedding: str = "embed_tokens"
    layers: str = "layers"
    attention: str = "self_attn"
    qkv: str = "qkv_proj"
    out: str = "o_proj"
    before: str = "input_layernorm"
    bias: bool = False  # of q, k and v
    head_norms: bool = False  # of each query and key
    norms_around: bool = False  # of what attention and MLP give, and not only of what they get
    fused: bool = False  # the checkpoint holds q, k and v in one tensor, gate and up in another
    split: bool = False  # MLC, too, keeps q, k and v apart
    plus_one: bool = False  # norms multiply by 1 + weight; MLC stores the sum
    tied: bool = False  # where config.json leaves it open
    gates: tuple[str, ...] = ("silu", "swish")  # the function that the gate goes through, by all its names
    keys: tuple[str, ...] = ()


_GELU = ("gelu_pytorch_tanh", "gelu_tanh")
_GEMMA = ("hidden_activation", "attention_bias", "query_pre_attn_scalar", "sliding_window")
_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")

_GEMMA3 = Layout(
    body="language_model.model",
    split=True,
    head_norms=True,
    norms_around=True,
    plus_one=True,
    tied=True,
    gates=_GELU,
    keys=(*_GEMMA, "rope_local_base_freq", "sliding_window_pattern", "layer_types"),
)

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "llama": Layout(),
        "mistral": Layout(keys=("sliding_window",)),
        "qwen2": Layout(qkv="c_attn", bias=True, keys=("hidden_act", "rope_theta")),
        "qwen3": Layout(qkv="c_attn", head_norms=True, keys=("hidden_act", "rope_theta", "attention_bias")),
        "gemma3": _GEMMA3,
        "gemma3_text": _GEMMA3,
        "gemma2": Layout(
            norms_around=True,
            plus_one=True,
            tied=True,
            gates=_GELU,
            keys=(*_GEMMA, *_CAPS, "layer_types"),
        ),
        "phi3": Layout(
            body="transformer",
            embedding="embd",
            layers="h",
            attention="mixer",
            out="out_proj",
            before="ln",
            fused=True,
            keys=(
                "max_position_embeddings",
                "original_max_position_embeddings",
                "partial_rotary_factor",
                "sliding_window",
            ),
        ),
    }
)


def layouts() -> Registry[Layout]:
    """By `model_type`, with those of other installed packages (their entry points are functions of nothing).

    Raises `DuplicateName` where two have the same name.
    """
    registry: Registry[Layout] = Registry("layout")
    for name, layout in LAYOUTS.items():
        registry.add(name, partial(_same, layout))
    return plugins.extend(registry, plugins.LAYOUTS)


def layout_of(architecture: str) -> Layout:
    """Raises `UnsupportedArchitecture`, `DuplicateName`, `PluginFailed`."""
    known = layouts()
    if architecture not in known:
        raise UnsupportedArchitecture(architecture, tuple(known))
    return known.get(architecture)()


def _same(layout: Layout) -> Layout:
    return layout
