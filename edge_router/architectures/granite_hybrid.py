"""Granite 4 hybrid (dense): most layers keep a state by Mamba 2, the others attend; Granite's scales."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from edge_router.architectures.description import Architecture
from edge_router.architectures.mixers import Mixer, MixerSizes, State, count
from edge_router.errors import InvalidModel

_WORDS = {"linear_attention": "mamba", "full_attention": "attention"}  # of transformers 5
_CHECKPOINT = {
    "shared_mlp.input_linear": "mlp.gate_up_proj",
    "shared_mlp.output_linear": "mlp.down_proj",
}


def _sizes(config: Mapping[str, object], where: str) -> MixerSizes:
    if config.get("num_local_experts"):
        raise InvalidModel(
            where, f"num_local_experts is {config['num_local_experts']!r}, and only 0 is computed"
        )
    if config.get("mamba_proj_bias") or config.get("mamba_conv_bias") is False:
        raise InvalidModel(where, "Mamba's convolution must have a bias and its products none")
    for limit, none in zip(
        cast("list[object]", config.get("time_step_limit") or []), (0.0, math.inf), strict=False
    ):
        if isinstance(limit, int | float) and limit != none:  # JSON has no word for infinity
            raise InvalidModel(where, f"a time_step_limit is {limit!r}, and steps are not limited here")
    heads, groups = (count(config, f"mamba_n_{which}", where, 1) for which in ("heads", "groups"))
    size, state = (count(config, f"mamba_d_{which}", where) for which in ("head", "state"))
    taps, inner = count(config, "mamba_d_conv", where, 4), heads * size
    if heads % groups:
        raise InvalidModel(where, f"{heads} of Mamba's heads in {groups} groups")
    channels = inner + 2 * groups * state
    return MixerSizes(
        inputs={"in_proj": inner + channels + heads},
        width=inner,
        vectors={
            "conv1d.weight": (channels, taps),
            "conv1d.bias": (channels,),
            **dict.fromkeys(("A_log", "dt_bias", "D"), (heads,)),
            "norm.weight": (inner,),
        },
        states=(State("tail", (taps - 1, channels)), State("memory", (heads, state, size))),
    )


MAMBA2 = Mixer(
    "mamba",
    "mamba",
    _sizes,
    graph="edge_router.compile.graphs.recurrent:Mamba2",
    reference="edge_router.compile.weights.mixing:mamba2",
)


def plain(config: Mapping[str, object]) -> dict[str, object]:
    """With the kind of each layer in one word, and sizes as numbers."""
    found = dict(config)
    found["intermediate_size"] = found.pop("shared_intermediate_size", found.get("intermediate_size"))
    kinds = found.pop("layers_block_type", None) or found.get("layer_types")
    if isinstance(kinds, list):
        found["layer_types"] = [_WORDS.get(str(kind), kind) for kind in kinds]
    hidden, heads, by = (found.get(key) for key in ("hidden_size", "mamba_n_heads", "mamba_expand"))
    if found.get("mamba_d_head") in (None, "auto") and isinstance(hidden, int) and isinstance(heads, int):
        found["mamba_d_head"] = (by if isinstance(by, int) else 2) * hidden // max(1, heads)
    return found


GRANITE_HYBRID = Architecture(
    "granitemoehybrid",
    fused_mlp=True,
    turns="stated",
    mixers=(MAMBA2,),
    checkpoint=_CHECKPOINT,
    plain=plain,
    keys=(
        *("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"),
        *("position_embedding_type", "layer_types", "num_local_experts"),
        *("mamba_n_heads", "mamba_n_groups", "mamba_d_head", "mamba_d_state", "mamba_d_conv"),
    ),
)
