"""LFM2: most layers mix a token with the two before it, by a short convolution; the others attend."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.architectures.description import Architecture
from edge_router.architectures.gguf_names import BLOCK, HEAD_NORMS, GgufNames
from edge_router.architectures.mixers import Mixer, MixerSizes, State, count
from edge_router.errors import InvalidModel

_CHECKPOINT = {
    "model.embedding_norm": "model.norm",
    "operator_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "self_attn.out_proj": "self_attn.o_proj",
    "self_attn.q_layernorm": "self_attn.q_norm",
    "self_attn.k_layernorm": "self_attn.k_norm",
}
_CONVOLUTION = {f"shortconv.{name}": f"conv.{name}" for name in ("conv", "in_proj", "out_proj")}


def _sizes(config: Mapping[str, object], where: str) -> MixerSizes:
    if config.get("conv_bias"):
        raise InvalidModel(where, "conv_bias is set, which no released LFM2 has")
    hidden = count(config, "hidden_size", where)
    taps = count(config, "conv_L_cache", where, 3)
    return MixerSizes(
        inputs={"in_proj": 3 * hidden},
        width=hidden,
        vectors={"conv.weight": (hidden, taps)},
        states=(State("tail", (taps - 1, hidden)),),
    )


CONVOLUTION = Mixer(
    "conv",
    "conv",
    _sizes,
    graph="edge_router.compile.graphs.mixing:ShortConvolution",
    reference="edge_router.compile.weights.mixing:short_convolution",
)


def plain(config: Mapping[str, object]) -> dict[str, object]:
    """config.json in the words of others, with the width that the MLP really has."""
    found = dict(config)
    for theirs, ours in (
        ("norm_eps", "rms_norm_eps"),
        ("block_ff_dim", "intermediate_size"),
        ("tie_embedding", "tie_word_embeddings"),
    ):
        if theirs in found:
            found[ours] = found.pop(theirs)
    found.setdefault("rope_theta", 1000000.0)
    width = found.get("intermediate_size")
    if found.pop("block_auto_adjust_ff_dim", True) and isinstance(width, int):
        factor, multiple = found.get("block_ffn_dim_multiplier"), found.get("block_multiple_of") or 256
        width = 2 * width // 3
        width = int(factor * width) if isinstance(factor, int | float) else width
        assert isinstance(multiple, int)
        found["intermediate_size"] = -(-width // multiple) * multiple
    layers, attending = found.get("num_hidden_layers"), found.pop("full_attn_idxs", None)
    if found.get("layer_types") is None and isinstance(layers, int) and isinstance(attending, list):
        found["layer_types"] = ["full_attention" if layer in attending else "conv" for layer in range(layers)]
    return found


LFM2 = Architecture(
    "lfm2",
    gguf=GgufNames(
        "lfm2",
        BLOCK | HEAD_NORMS | _CONVOLUTION,
        top={"token_embd_norm": "model.norm"},
        counts={"shortconv.l_cache": "conv_L_cache"},
        unsaid={"block_auto_adjust_ff_dim": False},  # they state the width that it really is
    ),
    head_norms="each",
    tied=True,
    mixers=(CONVOLUTION,),
    checkpoint=_CHECKPOINT,
    plain=plain,
    keys=("layer_types", "conv_L_cache", "conv_bias"),
)
