"""A random Llama of two layers, as Hugging Face's folder and as a GGUF file, for tests of what reads them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

CONFIG: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "max_position_embeddings": 256,
    "vocab_size": 288,
    "tie_word_embeddings": True,
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ t", "h e", "Ġt he", "a n", "an d"]
_GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GGUF_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


@dataclass(frozen=True)
class TinyLlama:
    folder: Path  # safetensors
    gguf: Path  # the same tensors, in F32
    config: Mapping[str, object]
    tensors: Mapping[str, np.ndarray]


def make(folder: Path, *, seed: int = 0, tied: bool = True) -> TinyLlama:
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG | {"tie_word_embeddings": tied}
    tensors = random_tensors(config, seed)
    write_safetensors(folder / "model.safetensors", tensors)
    files = {
        "config.json": config,
        "generation_config.json": {"eos_token_id": 2, "bos_token_id": 1, "temperature": 0.5},
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {"eos_token": "<|im_end|>", "chat_template": TEMPLATE},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    file = folder.parent / f"{folder.name}.gguf"
    write_gguf(file, config, tensors)
    return TinyLlama(folder, file, config, tensors)


def shapes(config: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    query = config["num_attention_heads"] * config["head_dim"]
    key = config["num_key_value_heads"] * config["head_dim"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens": (vocabulary, hidden)}
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        found |= {
            f"{layer}.input_layernorm": (hidden,),
            f"{layer}.self_attn.q_proj": (query, hidden),
            f"{layer}.self_attn.k_proj": (key, hidden),
            f"{layer}.self_attn.v_proj": (key, hidden),
            f"{layer}.self_attn.o_proj": (hidden, query),
            f"{layer}.post_attention_layernorm": (hidden,),
            f"{layer}.mlp.gate_proj": (inner, hidden),
            f"{layer}.mlp.up_proj": (inner, hidden),
            f"{layer}.mlp.down_proj": (hidden, inner),
        }
    found["model.norm"] = (hidden,)
    if not config["tie_word_embeddings"]:
        found["lm_head"] = (vocabulary, hidden)
    return {f"{name}.weight": shape for name, shape in found.items()}


def random_tensors(config: Mapping[str, object], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(0, 0.2, shape) if len(shape) == 2 else rng.uniform(0.5, 1.5, shape)).astype("f4")
        for name, shape in shapes(config).items()
    }


def tokenizer() -> dict[str, object]:
    vocabulary = tokens()
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": i,
                "content": word,
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for i, word in enumerate(SPECIALS)
        ],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {word: i for i, word in enumerate(vocabulary)},
            "merges": MERGES,
        },
    }


def tokens() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return [*SPECIALS, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]


def write_safetensors(file: Path, tensors: Mapping[str, np.ndarray], dtype: str = "F32") -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    content = b""
    for name, tensor in tensors.items():
        raw = encoded(tensor, dtype)
        offsets = [len(content), len(content) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        content += raw
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content)


def encoded(tensor: np.ndarray, dtype: str) -> bytes:
    if dtype == "BF16":
        return (tensor.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return tensor.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def write_gguf(
    file: Path,
    config: Mapping[str, object],
    tensors: Mapping[str, np.ndarray],
    types: Mapping[str, gguf.GGMLQuantizationType] | None = None,
    extra: Mapping[str, object] | None = None,
    part: tuple[int, int, int] | None = None,
) -> None:
    """As llama.cpp's converter writes it: its names, its order of the rows of q and k.

    `part`: which one of how many, and the tensors in all of them.
    """
    writer = gguf.GGUFWriter(file, "llama")
    if part is not None:
        writer.add_uint16("split.no", part[0])
        writer.add_uint16("split.count", part[1])
        writer.add_int32("split.tensors.count", part[2])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens())
    writer.add_token_types([3] * len(SPECIALS) + [1] * (len(tokens()) - len(SPECIALS)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for key, value in (extra or {}).items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_string
        (writer.add_uint32 if type(value) is int else add)(key, value)
    for name, tensor in tensors.items():
        stem, _, word = name.rpartition(".")
        if stem.endswith(("q_proj", "k_proj")) and tensor.ndim == 2:
            tensor = llama_cpp_order(tensor, config["head_dim"])
        kind = (types or {}).get(name, gguf.GGMLQuantizationType.F32)
        raw = gguf.quants.quantize(tensor, kind)
        writer.add_tensor(f"{gguf_name(stem)}.{word}", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_split_gguf(
    stem: Path, config: Mapping[str, object], tensors: Mapping[str, np.ndarray]
) -> list[Path]:
    """The same in two parts."""
    names = list(tensors)
    halves = [names[: len(names) // 2], names[len(names) // 2 :]]
    files = [stem.with_name(f"{stem.name}-0000{number}-of-00002.gguf") for number in (1, 2)]
    for number, (file, half) in enumerate(zip(files, halves, strict=True)):
        held = {name: tensors[name] for name in half}
        write_gguf(file, config, held, part=(number, 2, len(names)))
    return files


def gguf_name(stem: str) -> str:
    if stem in _GGUF_TOP:
        return _GGUF_TOP[stem]
    if not stem.startswith("model.layers."):
        return stem
    _, _, number, part = stem.split(".", 3)
    return f"blk.{number}.{_GGUF_NAMES[part]}"


def llama_cpp_order(tensor: np.ndarray, head_dim: int) -> np.ndarray:
    return tensor.reshape(-1, 2, head_dim // 2, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
