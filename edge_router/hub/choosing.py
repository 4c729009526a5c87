"""Which files of a repository a model needs: configuration, tokenizer, and the weights in one format only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from edge_router.catalog.gguf import first_part, models_among, parts_of, title_of

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
)
# At the end of a GGUF file's name, what its weights are quantized to.
_QUANTIZATION = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q\d\w*|T?Q\d_\d|BF16|F16|F32|MXFP4\w*))$", re.IGNORECASE
)
# They are quantized again here, so the more exact ones make the better models; beyond Q8_0 it is only size.
_PREFERRED = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S")


def choose(names: Iterable[str], patterns: Sequence[str] = (), gguf: str = "") -> list[str]:
    """Names to fetch; empty when there are no weights among them, or several models in GGUF to choose from.

    `patterns` (shell style), where given, replace the choice of weights and of everything else; `gguf` names
    one of several models, by its file or its quantization. Only the top folder counts otherwise: copies in
    other formats lie in folders of their own. All that describes a model in GGUF is in its file.
    """
    names = sorted(names)
    if patterns:
        return _matching(names, patterns)
    top = [name for name in names if "/" not in name]
    for weights in WEIGHTS if not gguf else ():
        found = _matching(top, weights)
        if found:
            return sorted({*found, *_matching(names, DESCRIPTIONS)})
    found = list(meant(names, gguf))
    return models_among(names)[found[0]] if len(found) == 1 else []


def meant(names: Iterable[str], gguf: str = "") -> list[str]:
    """The models in GGUF that `gguf` may mean, each by its first part; without it all of the top folder."""
    models = models_among(names)
    if not gguf:
        return [name for name in models if "/" not in name] or list(models)
    if gguf.endswith(".gguf"):
        return [name for name in models if name == first_part(gguf)]
    wanted = gguf.lower()
    exact = [name for name in models if (_quantization(name) or "").lower() == wanted]
    part = re.compile(rf"(?<![a-z0-9]){re.escape(wanted)}(?![a-z0-9_])")
    return exact or [name for name in models if part.search(_whole(name).lower())]


def missing_parts(names: Iterable[str]) -> list[str]:
    """The parts that are not among `names`, of models in GGUF some of whose parts are."""
    models: Mapping[str, list[str]] = models_among(names)
    return sorted(part for first, held in models.items() for part in set(parts_of(first)) - set(held))


def ways_to_name(names: Iterable[str]) -> list[str]:
    """What `gguf` can be for each model, the best first: its quantization, or its file."""
    models = sorted(models_among(names), key=_rank)
    tags = [_quantization(name) for name in models]
    return [tag if tag and tags.count(tag) == 1 else name for name, tag in zip(models, tags, strict=True)]


def looked_for(patterns: Sequence[str] = ()) -> str:
    return ", ".join(patterns or [*dict.fromkeys(group[0] for group in WEIGHTS), "*.gguf"])


def _whole(name: str) -> str:
    """The path without ending and number of part."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{title_of(base)}"


def _quantization(name: str) -> str | None:
    found = _QUANTIZATION.search(_whole(name).rpartition("/")[2])
    return None if found is None else found[1]


def _rank(name: str) -> tuple[int, str]:
    tag = (_quantization(name) or "").upper()
    return (_PREFERRED.index(tag) if tag in _PREFERRED else len(_PREFERRED), name)


def _matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
