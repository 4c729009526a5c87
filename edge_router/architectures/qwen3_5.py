"""Qwen 3.5 (text): three of four layers keep a state by the gated delta rule, the fourth attends, gated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_router.architectures.description import Architecture
from edge_router.architectures.gguf_names import BLOCK, HEAD_NORMS, GgufNames
from edge_router.architectures.mixers import Mixer, MixerSizes, State, count
from edge_router.errors import InvalidModel

_EVERY = 4  # layers, of which the last attends


def _sizes(config: Mapping[str, object], where: str) -> MixerSizes:
    key_heads, heads = (count(config, f"linear_num_{which}_heads", where) for which in ("key", "value"))
    key, value = (count(config, f"linear_{which}_head_dim", where) for which in ("key", "value"))
    channels = 2 * key_heads * key + heads * value
    taps = count(config, "linear_conv_kernel_dim", where, 4)
    if heads % key_heads:
        raise InvalidModel(where, f"{heads} linear value heads over {key_heads} key heads")
    return MixerSizes(
        inputs={
            "in_proj_qkv": channels,
            "in_proj_z": heads * value,
            "in_proj_b": heads,
            "in_proj_a": heads,
        },
        width=heads * value,
        vectors={
            "conv1d.weight": (channels, taps),
            "A_log": (heads,),
            "dt_bias": (heads,),
            "norm.weight": (value,),
        },
        states=(State("tail", (taps - 1, channels)), State("memory", (heads, key, value))),
    )


DELTA_NET = Mixer(
    "linear_attention",
    "linear_attn",
    _sizes,
    graph="edge_router.compile.graphs.recurrent:GatedDeltaNet",
    reference="edge_router.compile.weights.mixing:gated_delta_net",
)


def plain(config: Mapping[str, object]) -> dict[str, object]:
    """With the kind of each layer, and the share of channels that turn."""
    found = dict(config)
    layers, every = found.get("num_hidden_layers"), found.pop("full_attention_interval", None) or _EVERY
    if found.get("layer_types") is None and isinstance(layers, int) and isinstance(every, int):
        kinds = ("full_attention", "linear_attention")
        found["layer_types"] = [kinds[(layer + 1) % every > 0] for layer in range(layers)]
    found.setdefault("partial_rotary_factor", 0.25)
    inner, heads = found.pop("linear_inner_size", None), found.get("linear_num_value_heads")
    if isinstance(inner, int) and isinstance(heads, int) and heads > 0:
        found["linear_value_head_dim"] = inner // heads
    return found


def _tiled(config: Mapping[str, object], size: int, before: int = 0) -> Sequence[int]:
    """Where llama.cpp keeps the rows of value heads, which it has by their number in a group, not by group.

    `before`: rows that come first, as they are.
    """
    groups, heads = (count(config, f"linear_num_{which}_heads", "") for which in ("key", "value"))
    each = heads // groups
    order = (number * groups + group for group in range(groups) for number in range(each))
    return [*range(before), *(before + head * size + at for head in order for at in range(size))]


def _rows(config: Mapping[str, object], name: str) -> Sequence[int] | None:
    value, key = (count(config, f"linear_{which}_head_dim", "") for which in ("value", "key"))
    keys = 2 * key * count(config, "linear_num_key_heads", "")
    if name in ("linear_attn.in_proj_qkv.weight", "linear_attn.conv1d.weight"):
        return _tiled(config, value, keys)
    if name == "linear_attn.in_proj_z.weight":
        return _tiled(config, value)
    return _tiled(config, 1) if name in _BY_HEAD else None


def _columns(config: Mapping[str, object], name: str) -> Sequence[int] | None:
    if name != "linear_attn.out_proj.weight":
        return None
    return _tiled(config, count(config, "linear_value_head_dim", ""))


_BY_HEAD = tuple(
    f"linear_attn.{name}" for name in ("in_proj_a.weight", "in_proj_b.weight", "A_log", "dt_bias")
)
_BLOCK = {
    **BLOCK,
    **HEAD_NORMS,
    "post_attention_norm": "post_attention_layernorm",
    "attn_qkv": "linear_attn.in_proj_qkv",
    "attn_gate": "linear_attn.in_proj_z",
    "ssm_alpha": "linear_attn.in_proj_a",
    "ssm_beta": "linear_attn.in_proj_b",
    "ssm_a": "linear_attn.A_log",
    "ssm_dt.bias": "linear_attn.dt_bias",
    "ssm_conv1d": "linear_attn.conv1d",
    "ssm_norm": "linear_attn.norm",
    "ssm_out": "linear_attn.out_proj",
}
_COUNTS = {
    "ssm.conv_kernel": "linear_conv_kernel_dim",
    "ssm.state_size": "linear_key_head_dim",
    "ssm.group_count": "linear_num_key_heads",
    "ssm.time_step_rank": "linear_num_value_heads",
    "ssm.inner_size": "linear_inner_size",
}

QWEN3_5 = Architecture(
    "qwen3_5_text",
    gguf=GgufNames(
        "qwen35",
        _BLOCK,
        counts=_COUNTS,
        rows=_rows,
        columns=_columns,
        powers=("linear_attn.A_log",),
        spare="nextn_predict_layers",
    ),
    head_norms="each",
    plus_one=True,
    gated=True,
    mixers=(DELTA_NET,),
    inner="model.language_model.",
    skipped=("model.visual.", "mtp."),
    plain=plain,
    keys=(
        *("layer_types", "partial_rotary_factor", "linear_conv_kernel_dim"),
        *("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"),
    ),
)
