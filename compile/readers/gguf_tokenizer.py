"""tokenizer.json and tokenizer_config.json out of a GGUF file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from edge_router.compile.readers.sentencepiece import sentencepiece
from edge_router.errors import InvalidModel

_BYTE_LEVEL, _SENTENCEPIECE = "gpt2", "llama"  # kinds, as llama.cpp names them
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # token types; 1 is an ordinary token

# Tokens that end an answer although the metadata names only one, as llama.cpp knows them.
_END_NAMES = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
)

# How text is cut before merging, by llama.cpp's name of it (`tokenizer.ggml.pre`): whether digits stand
# alone, and the pattern that cuts, None being GPT-2's own.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDINGS}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CUTS: dict[str, tuple[bool, str | None]] = {
    "default": (False, None),
    "gpt-2": (False, None),
    "smollm": (True, None),
    "llama-bpe": (False, _LLAMA3),
    "llama3": (False, _LLAMA3),
    "qwen2": (False, _QWEN2),
    "deepseek-r1-qwen": (False, _QWEN2),
    "gpt-4o": (False, _GPT4O),
}


def tokenizer_files(fields: Mapping[str, object], source: Path) -> dict[str, bytes]:
    """The two files a tokenizer needs. Raises `InvalidModel` for a kind that can't be told from metadata."""
    kind = fields.get("tokenizer.ggml.model")
    if kind not in (_BYTE_LEVEL, _SENTENCEPIECE):
        raise InvalidModel(
            source,
            f"its tokenizer is of kind {kind!r}; byte-level BPE ({_BYTE_LEVEL!r}) and SentencePiece's "
            f"({_SENTENCEPIECE!r}) can be read",
        )
    return {
        "tokenizer.json": _dump(_tokenizer(fields, source)),
        "tokenizer_config.json": _dump(_tokenizer_config(fields)),
    }


def generation_config(fields: Mapping[str, object]) -> dict[str, object]:
    """Token ids, every token that ends an answer among them, and sampling defaults where a file has them."""
    config: dict[str, object] = {}
    for key, field in (("bos_token_id", "bos"), ("pad_token_id", "padding")):
        if (value := fields.get(f"tokenizer.ggml.{field}_token_id")) is not None:
            config[key] = value
    named = [fields.get(f"tokenizer.ggml.{field}_token_id") for field in ("eos", "eot", "eom")]
    tokens, types = _tokens(fields)
    ends = [identifier for identifier in named if isinstance(identifier, int)]
    ends += [
        i for i, (token, kind) in enumerate(zip(tokens, types, strict=False))
        if kind == _CONTROL and token in _END_NAMES
    ]  # fmt: skip
    unique = list(dict.fromkeys(ends))
    if unique:
        config["eos_token_id"] = unique[0] if len(unique) == 1 else unique
    for key, field in (("temperature", "temp"), ("top_p", "top_p"), ("top_k", "top_k")):
        if (value := fields.get(f"general.sampling.{field}")) is not None:
            config[key] = value
    return config


def _tokens(fields: Mapping[str, object]) -> tuple[list[str], list[int]]:
    tokens = cast("list[str]", fields.get("tokenizer.ggml.tokens") or [])
    return tokens, cast("list[int]", fields.get("tokenizer.ggml.token_type") or [1] * len(tokens))


def _tokenizer(fields: Mapping[str, object], source: Path) -> dict[str, object]:
    tokens, types = _tokens(fields)
    if not tokens or len(types) != len(tokens):
        raise InvalidModel(source, f"a tokenizer of {len(tokens)} tokens and {len(types)} types")
    parts = sentencepiece if _is_sentencepiece(fields) else _byte_level
    added = [
        {
            "id": identifier,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind != _USER_DEFINED,
        }
        for identifier, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "post_processor": _post_processor(fields, tokens),
        **parts(fields, tokens, source),
    }


def _byte_level(fields: Mapping[str, object], tokens: list[str], source: Path) -> dict[str, object]:
    merges = fields.get("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        raise InvalidModel(source, f"a tokenizer of {len(tokens)} tokens and no merges")
    cut = str(fields.get("tokenizer.ggml.pre", "default"))
    if cut not in _CUTS:
        raise InvalidModel(source, f"text is cut as {cut!r}; known ways: {', '.join(_CUTS)}")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    composed = {"type": "NFC"} if _CUTS[cut][1] == _QWEN2 else None
    return {
        "normalizer": composed,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _cutters(*_CUTS[cut], byte_level)},
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": cut in ("llama-bpe", "llama3"),
            "vocab": {token: identifier for identifier, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def _cutters(digits: bool, pattern: str | None, byte_level: dict[str, object]) -> list[dict[str, object]]:
    cutters: list[dict[str, object]] = []
    if digits:
        cutters.append({"type": "Digits", "individual_digits": True})
    if pattern is not None:
        split = {"pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        cutters.append({"type": "Split", **split})
    return [*cutters, {**byte_level, "use_regex": pattern is None}]


def _post_processor(fields: Mapping[str, object], tokens: list[str]) -> dict[str, object] | None:
    """The beginning-of-text token, where the model wants one and the chat template doesn't write it."""
    begin = fields.get("tokenizer.ggml.bos_token_id")
    if not _adds_begin(fields) or not isinstance(begin, int):
        return None
    token = tokens[begin]
    special = {"SpecialToken": {"id": token, "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [special, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [special, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [begin], "tokens": [token]}},
    }


def _is_sentencepiece(fields: Mapping[str, object]) -> bool:
    return fields.get("tokenizer.ggml.model") == _SENTENCEPIECE


def _adds_begin(fields: Mapping[str, object]) -> bool:
    return bool(fields.get("tokenizer.ggml.add_bos_token", _is_sentencepiece(fields)))


def _tokenizer_config(fields: Mapping[str, object]) -> dict[str, object]:
    tokens, _ = _tokens(fields)
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": _adds_begin(fields),
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": fields.get(f"{fields.get('general.architecture')}.context_length"),
    }
    for key, field in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        identifier = fields.get(f"tokenizer.ggml.{field}_token_id")
        if isinstance(identifier, int) and 0 <= identifier < len(tokens):
            config[f"{key}_token"] = tokens[identifier]
    if (template := fields.get("tokenizer.chat_template")) is not None:
        config["chat_template"] = template
    return config


def _dump(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, indent=1).encode("utf-8")
