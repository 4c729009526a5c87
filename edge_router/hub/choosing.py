"""Which files of a repository a model needs: configuration, tokenizer, and the weights in one format only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

# Small files that say what the model is and how its text is made.
DESCRIPTIONS = (
    "config.json",
    "generation_config.json",
    "mlc-chat-config.json",
    "tensor-cache.json",
    "ndarray-cache.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
# Weights, best first: ready ones, then safetensors (some repositories hold the same weights twice under other
# names, so the usual name comes first), then torch's own, then GGUF.
WEIGHTS: tuple[tuple[str, ...], ...] = (
    ("params_shard_*.bin",),
    ("model*.safetensors", "model.safetensors.index.json"),
    ("*.safetensors",),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ("*.gguf",),
)


def choose(names: Iterable[str], patterns: Sequence[str] = ()) -> list[str]:
    """Names to fetch; empty when there are no weights among them, or several GGUF files to choose from.

    `patterns` (shell style), where given, replace the choice of weights and of everything else. Only the top
    folder counts otherwise: copies in other formats lie in folders of their own.
    """
    names = sorted(names)
    if patterns:
        return _matching(names, patterns)
    top = [name for name in names if "/" not in name]
    for weights in WEIGHTS:
        found = _matching(top, weights)
        if found and not (weights == ("*.gguf",) and len(found) > 1):
            return sorted({*found, *_matching(names, DESCRIPTIONS)})
    return []


def looked_for(patterns: Sequence[str] = ()) -> str:
    return ", ".join(patterns or dict.fromkeys(group[0] for group in WEIGHTS))


def _matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
