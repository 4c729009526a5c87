"""What each architecture is called in GGUF files and in Hugging Face's, and how its tensors differ there.

As llama.cpp's converter writes them (convert_hf_to_gguf.py) and its runtime reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType

from edge_router.records import dataclass

_TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_NORMS_AROUND = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_FUSED = {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


@dataclass(frozen=True, slots=True)
class Family:
    """`model_type` is Hugging Face's; `block` the names of a layer's tensors, GGUF's to Hugging Face's.

    `turned`: the rows of q and k lie in llama.cpp's order. `plus_one`: norms are stored with 1 added. `often`
    is one in how many layers sees everything, the others having a window; 0 where all are alike.
    """

    model_type: str
    block: Mapping[str, str] = field(default_factory=lambda: _BLOCK)
    activation: str = "silu"
    turned: bool = False
    plus_one: bool = False
    often: int = 0

    def hugging_face_name(self, name: str) -> str | None:
        """None for a tensor that this architecture does not have."""
        if name in ROPE_TENSORS:
            return name
        stem, _, word = name.rpartition(".")
        if stem in _TOP:
            return f"{_TOP[stem]}.{word}"
        parts = stem.split(".")
        if len(parts) == 3 and parts[0] == "blk" and parts[2] in self.block:
            return f"model.layers.{parts[1]}.{self.block[parts[2]]}.{word}"
        return None


_TANH = "gelu_pytorch_tanh"

# GGUF calls Mistral's and every other model of Llama's shape "llama" too.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "llama": Family("llama", turned=True),
        "qwen2": Family("qwen2"),
        "qwen3": Family("qwen3", _BLOCK | _HEAD_NORMS),
        "gemma2": Family("gemma2", _BLOCK | _NORMS_AROUND, _TANH, plus_one=True, often=2),
        "gemma3": Family("gemma3_text", _BLOCK | _NORMS_AROUND | _HEAD_NORMS, _TANH, plus_one=True, often=6),
        "phi3": Family("phi3", _BLOCK | _FUSED),
    }
)
