"""tokenizer.json and tokenizer_config.json out of a GGUF file's metadata."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

from edge_router.compile.readers.gguf_cutting import BYTE_LEVEL, PreTokenizer, cut_of, cutters
from edge_router.compile.readers.sentencepiece import sentencepiece
from edge_router.errors import InvalidModel
from edge_router.prompts.turns import END_NAMES, MARK

_BYTE_LEVEL, _SENTENCEPIECE = "gpt2", "llama"  # kinds, as llama.cpp names them
_ORDINARY, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4  # token types
_Item = TypeVar("_Item", str, int)
_logger = logging.getLogger(__name__)


def tokenizer_files(fields: Mapping[str, object], source: Path) -> dict[str, bytes]:
    """The two files a tokenizer needs. Raises `InvalidModel` for a kind that can't be told from metadata."""
    kind = fields.get("tokenizer.ggml.model")
    if kind not in (_BYTE_LEVEL, _SENTENCEPIECE):
        raise InvalidModel(
            source,
            f"its tokenizer is of kind {kind!r}; byte-level BPE ({_BYTE_LEVEL!r}) and SentencePiece's "
            f"({_SENTENCEPIECE!r}) can be read",
        )
    told = {**fields, "tokenizer.ggml.token_type": _kinds(fields, source)}
    return {
        "tokenizer.json": _dump(_tokenizer(told, source)),
        "tokenizer_config.json": _dump(_tokenizer_config(told)),
    }


def doubt(fields: Mapping[str, object], source: Path) -> str | None:
    """What had to be guessed of the tokenizer. Raises `InvalidModel`."""
    if fields.get("tokenizer.ggml.model") != _BYTE_LEVEL:
        return None
    tokens, kinds = _tokens(fields)[0], _kinds(fields, source)
    return _cut(fields, tokens, kinds, source)[1]


def generation_config(fields: Mapping[str, object]) -> dict[str, object]:
    """Token ids, every token that ends an answer among them, and sampling defaults where a file has them."""
    config: dict[str, object] = {}
    tokens, _ = _tokens(fields)
    for key, field in (("bos_token_id", "bos"), ("pad_token_id", "padding")):
        if (identifier := _token_id(fields, field, tokens)) is not None:
            config[key] = identifier
    named = [_token_id(fields, field, tokens) for field in ("eos", "eot", "eom")]
    ends = [identifier for identifier in named if identifier is not None]
    ends += [identifier for identifier, token in enumerate(tokens) if token in END_NAMES]
    unique = list(dict.fromkeys(ends))
    if unique:
        config["eos_token_id"] = unique[0] if len(unique) == 1 else unique
    for key, field in (("temperature", "temp"), ("top_p", "top_p"), ("top_k", "top_k")):
        if (value := fields.get(f"general.sampling.{field}")) is not None:
            config[key] = value
    return config


def _tokens(fields: Mapping[str, object]) -> tuple[list[str], list[int]]:
    """All tokens and the type of each; nothing of what is no list of texts, or of numbers."""
    tokens = _listed(fields.get("tokenizer.ggml.tokens"), str)
    kinds = fields.get("tokenizer.ggml.token_type")
    return tokens, [_ORDINARY] * len(tokens) if kinds is None else _listed(kinds, int)


def _listed(value: object, kind: type[_Item]) -> list[_Item]:
    fits = isinstance(value, list) and all(isinstance(item, kind) for item in value)
    return cast("list[_Item]", value) if fits else []


def _kinds(fields: Mapping[str, object], source: Path) -> list[int]:
    """The type of each token; marks that a file calls ordinary, or a user's own, are what they look like.

    What looks like a mark and can't come out of merging is never made of a text, so it was meant as one.
    Raises `InvalidModel`.
    """
    tokens, kinds = _tokens(fields)
    if not tokens or len(kinds) != len(tokens):
        raise InvalidModel(source, f"a tokenizer of {len(tokens)} tokens and {len(kinds)} types")
    found = list(kinds)
    merged: set[str] | None = None
    for identifier, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if kind not in (_ORDINARY, _USER_DEFINED) or token[:1] not in ("<", "["):
            continue
        if token in END_NAMES:
            found[identifier] = _CONTROL
        elif kind == _ORDINARY and MARK.fullmatch(token):
            merged = _merged(fields, tokens) if merged is None else merged
            if token not in merged:
                found[identifier] = _CONTROL if token.startswith(("<|", "<｜")) else _USER_DEFINED
    return found


def _merged(fields: Mapping[str, object], tokens: Sequence[str]) -> set[str]:
    """The tokens of several letters that come out of merging others."""
    merges = fields.get("tokenizer.ggml.merges")
    if isinstance(merges, list):
        return {str(merge).replace(" ", "") for merge in merges}
    known = set(tokens)
    return {
        token
        for token in tokens
        if any(token[:i] in known and token[i:] in known for i in range(1, len(token)))
    }


def _token_id(fields: Mapping[str, object], name: str, tokens: Sequence[str]) -> int | None:
    """A token that the metadata names; None for one that does not exist."""
    value = fields.get(f"tokenizer.ggml.{name}_token_id")
    return value if isinstance(value, int) and 0 <= value < len(tokens) else None


def _cut(
    fields: Mapping[str, object], tokens: Sequence[str], kinds: Sequence[int], source: Path
) -> tuple[PreTokenizer, str | None]:
    ordinary = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _ORDINARY]
    return cut_of(fields.get("tokenizer.ggml.pre"), ordinary, source)


def _tokenizer(fields: Mapping[str, object], source: Path) -> dict[str, object]:
    tokens, types = _tokens(fields)
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
    cut, doubtful = _cut(fields, tokens, _tokens(fields)[1], source)
    if doubtful is not None:
        _logger.warning(doubtful)
    return {
        "normalizer": {"type": "NFC"} if cut.composed else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": cutters(cut)},
        "decoder": dict(BYTE_LEVEL),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": cut.whole,
            "vocab": {token: identifier for identifier, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def _post_processor(fields: Mapping[str, object], tokens: list[str]) -> dict[str, object] | None:
    """The beginning-of-text token, where the model wants one and the chat template doesn't write it."""
    begin = _token_id(fields, "bos", tokens)
    if not _adds_begin(fields) or begin is None:
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
        if (identifier := _token_id(fields, field, tokens)) is not None:
            config[f"{key}_token"] = tokens[identifier]
    if (template := fields.get("tokenizer.chat_template")) is not None:
        config["chat_template"] = template
    return config


def _dump(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, indent=1).encode("utf-8")
