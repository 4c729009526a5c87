"""A SentencePiece vocabulary (pieces with scores) as the parts of a tokenizer.json.

SentencePiece joins the two neighbours that give the piece of the highest score, again and again, and falls
back on bytes for what is no piece. Byte-pair encoding does the same when its merges are ranked by the scores
of what they give, so tokenizers' BPE model serves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from edge_router.errors import InvalidModel

_SPACE = "▁"
_NORMAL, _USER_DEFINED = 1, 4  # token types of which longer pieces are made


def sentencepiece(fields: Mapping[str, object], tokens: list[str], source: Path) -> dict[str, object]:
    """Normalizer, cutting, decoder and model. Raises `InvalidModel` without a score for each token."""
    scores, types = fields.get("tokenizer.ggml.scores"), fields.get("tokenizer.ggml.token_type")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise InvalidModel(source, f"a SentencePiece tokenizer of {len(tokens)} tokens without their scores")
    unknown = fields.get("tokenizer.ggml.unknown_token_id", 0)
    if not isinstance(unknown, int) or not 0 <= unknown < len(tokens):
        raise InvalidModel(source, f"the unknown token is {unknown!r}, of {len(tokens)}")
    kinds = types if isinstance(types, list) else [_NORMAL] * len(tokens)
    joined = {
        token: float(score)
        for token, score, kind in zip(tokens, scores, kinds, strict=True)
        if kind in (_NORMAL, _USER_DEFINED)
    }
    prefixed = bool(fields.get("tokenizer.ggml.add_space_prefix", True))
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    back = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    return {
        "normalizer": _sequence("normalizers", *_if(prefixed, type="Prepend", prepend=_SPACE), spaces),
        "pre_tokenizer": None,
        "decoder": _sequence(
            "decoders",
            back,
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            *_if(prefixed, type="Strip", content=" ", start=1, stop=0),
        ),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": tokens[unknown],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: identifier for identifier, token in enumerate(tokens)},
            "merges": merges(joined),
        },
    }


def merges(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Every pair of pieces that gives a piece, the highest score first."""
    found = [
        (score, left, right) for piece, score in scores.items() for left, right in _halves(piece, scores)
    ]
    found.sort(key=lambda merge: -merge[0])
    return [(left, right) for _, left, right in found]


def _halves(piece: str, known: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for at in range(1, len(piece)):
        if piece[:at] in known and piece[at:] in known:
            yield piece[:at], piece[at:]


def _sequence(name: str, *steps: Mapping[str, object]) -> dict[str, object]:
    return {"type": "Sequence", name: list(steps)}


def _if(wanted: bool, **step: object) -> list[dict[str, object]]:
    return [step] if wanted else []
