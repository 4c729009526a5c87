"""The GGUF files that other programs are measured on: Q4_0, for which llama.cpp has its fastest kernels.

Made of a model's own file, or drawn in a model's shape. All matrices are Q4_0, the table of tokens too, as
`llama-quantize --pure` has it, so that as many bytes are read as of q4f16_1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_router.architectures import BY_TYPE, GgufNames
from edge_router.architectures.gguf_names import TOP
from edge_router.errors import UnsupportedArchitecture

_GROUP, _GROUP_BYTES = 32, 18  # numbers that share a scale; two bytes of it and sixteen of codes
_SCALE = 0.005
_NOISE = (1 << 24) + 1  # bytes, and no multiple of any row, so that rows differ
_Q4_0_FILE = 2  # general.file_type, by which OpenVINO reads the tensors
_DRAWABLE = ("llama", "qwen2", "qwen3")  # whose metadata `_describe` writes
_NORMAL, _CONTROL = 1, 3  # tokenizer.ggml.token_type


def requantized(source: Path, target: Path) -> None:
    """`source` with its matrices in Q4_0. What has rows of another length than whole groups stays float16."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    reader = GGUFReader(source)
    fields = reader.fields
    writer = GGUFWriter(target, str(fields["general.architecture"].contents()))
    for name, field in fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    writer.add_file_type(_Q4_0_FILE)
    kinds = GGMLQuantizationType
    for tensor in reader.tensors:
        shape = [int(length) for length in reversed(tensor.shape)]
        kind = kinds.F32
        if len(shape) > 1:
            kind = kinds.Q4_0 if shape[-1] % _GROUP == 0 else kinds.F16
        numbers = dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        writer.add_tensor(tensor.name, quantize(numbers, kind), raw_dtype=kind)
    _write(writer)


def form_of(path: Path) -> str:
    """Of most of a file's matrices, in GGUF's words: Q4_1, Q8_0."""
    from gguf.constants import GGMLQuantizationType

    from edge_router.catalog.gguf import GgufModel

    counts = Counter(t.type_number for t in GgufModel(path, lists=False).tensors.values() if len(t.shape) > 1)
    return str(GGMLQuantizationType(counts.most_common(1)[0][0]).name)


def drawn(config: Mapping[str, object], target: Path) -> None:
    """A model of `config`'s shape, with numbers drawn and a vocabulary of made-up words.

    `config` has Hugging Face's keys. Raises `UnsupportedArchitecture` for one that is not written.
    """
    import numpy as np
    from gguf import GGUFWriter
    from gguf.constants import GGMLQuantizationType

    from edge_router.compile.random_model import RandomReader

    gguf = _drawable(str(config["model_type"]))
    names = _names(gguf, int(str(config["num_hidden_layers"])))
    writer = GGUFWriter(target, gguf.architecture)
    _describe(writer, config)
    noise = np.random.default_rng(0).integers(0, 256, _NOISE, np.uint8)
    scale = np.array(_SCALE, np.float16).tobytes()
    for number, (name, tensor) in enumerate(RandomReader(config, target).tensors.items()):
        stem, _, word = name.rpartition(".")
        inner = f"{names[stem]}.{word}"
        if len(tensor.shape) == 1:
            writer.add_tensor(inner, np.ones(tensor.shape, np.float32))
            continue
        rows, columns = tensor.shape
        # No two the same, so that no program takes two for one.
        groups = np.resize(np.roll(noise, 4099 * number), (rows, columns // _GROUP, _GROUP_BYTES))
        groups[..., :2] = np.frombuffer(scale, np.uint8)
        writer.add_tensor(inner, groups.reshape(rows, -1), raw_dtype=GGMLQuantizationType.Q4_0)
    _write(writer)


def _drawable(model_type: str) -> GgufNames:
    """Raises `UnsupportedArchitecture`."""
    known = BY_TYPE.get(model_type)
    if known is None or known.gguf is None or known.gguf.architecture not in _DRAWABLE:
        raise UnsupportedArchitecture(model_type, _DRAWABLE)
    return known.gguf


def _names(gguf: GgufNames, layers: int) -> dict[str, str]:
    """GGUF's names by Hugging Face's, without their last word."""
    found = {theirs: ours for ours, theirs in TOP.items()}
    for layer in range(layers):
        found |= {
            f"model.layers.{layer}.{theirs}": f"blk.{layer}.{ours}" for ours, theirs in gguf.block.items()
        }
    return found


def _describe(writer: Any, config: Mapping[str, object]) -> None:
    def number(key: str) -> int:
        return int(str(config[key]))

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    head_dim = int(str(config.get("head_dim") or hidden // heads))
    writer.add_name("drawn")
    writer.add_context_length(number("max_position_embeddings"))
    writer.add_embedding_length(hidden)
    writer.add_block_count(number("num_hidden_layers"))
    writer.add_feed_forward_length(number("intermediate_size"))
    writer.add_head_count(heads)
    writer.add_head_count_kv(number("num_key_value_heads"))
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(str(config.get("rope_theta", 10000.0))))
    writer.add_layer_norm_rms_eps(float(str(config["rms_norm_eps"])))
    writer.add_vocab_size(number("vocab_size"))
    writer.add_file_type(_Q4_0_FILE)
    _vocabulary(writer, number("vocab_size"))


def _vocabulary(writer: Any, size: int) -> None:
    """Bytes, one merge (files without any are refused), and words that no text has."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, letters[0] + letters[1]]
    tokens += [f"<{number}>" for number in range(len(tokens), size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([_NORMAL] * (size - 1) + [_CONTROL])  # OpenVINO fails on files without one
    writer.add_token_merges([f"{letters[0]} {letters[1]}"])
    writer.add_bos_token_id(size - 1)
    writer.add_eos_token_id(size - 1)
    writer.add_add_bos_token(False)


def _write(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
