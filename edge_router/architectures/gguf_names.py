"""What an architecture is called in GGUF files, and its tensors there, each with its name in a checkpoint.

As llama.cpp's converter writes them (convert_hf_to_gguf.py) and its runtime reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TypeVar

from edge_router.records import dataclass

TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
PROJECTIONS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
BLOCK = {**PROJECTIONS, "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
NORMS_AFTER = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
NORMS_AROUND = {**NORMS_AFTER, "ffn_norm": "pre_feedforward_layernorm"}
EXPERT_COUNTS = {
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
}
# The router, and all experts' matrices in one tensor each: [experts, rows, columns].
EXPERTS = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.gate_proj",
    "ffn_up_exps": "mlp.experts.up_proj",
    "ffn_down_exps": "mlp.experts.down_proj",
}
FUSED = {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")

T = TypeVar("T")
Order = Callable[[Mapping[str, object], str], Sequence[int] | None]


def _in_order(config: Mapping[str, object], name: str) -> Sequence[int] | None:
    return None


@dataclass(frozen=True, slots=True)
class GgufNames:
    """`architecture` is that of `general.architecture`; `block` the names of a layer's tensors.

    `turned`: the rows of q and k lie in llama.cpp's order. `largest`: layers of the model that divides scores
    by the root of hidden / heads, which no key says. `numbers`: metadata keys of its own, with their names in
    config.json; `counts`: those that are whole; `unsaid`: what no file says and all of its models have.
    `top`: tensors outside of layers, beside `TOP`. `windowed`: the `model_type` of files that state a window,
    where that is another. `rows` and `columns`: which of the file's are a tensor's, by the config and the
    tensor's name in a layer, None for all as they come. Of the tensors named in `powers` files hold -exp(x).
    `spare`: the key of how many layers at the end go unused.
    """

    architecture: str
    block: Mapping[str, str] = field(default_factory=lambda: BLOCK)
    turned: bool = False
    largest: int = 0
    numbers: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, str] = field(default_factory=dict)
    unsaid: Mapping[str, object] = field(default_factory=dict)
    windowed: str = ""
    top: Mapping[str, str] = field(default_factory=dict)
    rows: Order = _in_order
    columns: Order = _in_order
    powers: tuple[str, ...] = ()
    spare: str = ""

    def useful(self, tensors: Mapping[str, T], layers: int) -> Mapping[str, T]:
        """Those of the first `layers`, and what is in none."""
        if not self.spare:
            return tensors
        known = {f"blk.{layer}" for layer in range(layers)}
        return {
            name: tensor
            for name, tensor in tensors.items()
            if not name.startswith("blk.") or ".".join(name.split(".", 2)[:2]) in known
        }

    def hugging_face_name(self, name: str) -> str | None:
        """None for a tensor that this architecture does not have."""
        if name in ROPE_TENSORS:
            return name
        stem, _, word = name.rpartition(".")
        top = {**TOP, **self.top}
        if stem in top:
            return f"{top[stem]}.{word}"
        whole = name.split(".", 2)
        if len(whole) == 3 and whole[0] == "blk" and whole[2] in self.block:  # with its last word
            return f"model.layers.{whole[1]}.{self.block[whole[2]]}"
        parts = stem.split(".", 2)
        if len(parts) == 3 and parts[0] == "blk" and parts[2] in self.block:
            return f"model.layers.{parts[1]}.{self.block[parts[2]]}.{word}"
        return None
