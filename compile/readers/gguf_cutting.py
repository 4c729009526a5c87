"""How a byte-level tokenizer cuts text before it merges, by name or told from its vocabulary.

A GGUF file names the way (`tokenizer.ggml.pre`), but older ones do not, and some say "default", which is what
a converter writes that doesn't know. A wrong way gives a third of all texts other tokens than the model was
trained with. But a vocabulary remembers: no token can be longer than the pieces that it was learnt from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from edge_router.errors import InvalidModel
from edge_router.records import dataclass

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _by_case(ending: str, digits: str) -> str:
    """Words are cut where small letters are followed by a capital."""
    word = (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{ending}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{ending}"
    )
    return rf"{word}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """`pattern` None is GPT-2's own; `digits`: each stands alone; `composed`: letters and accents are one.

    `whole`: a piece that is a token is not merged from its letters.
    """

    pattern: str | None = None
    digits: bool = False
    composed: bool = False
    whole: bool = False


_GPT2, _SMOLLM = PreTokenizer(), PreTokenizer(digits=True)
_LLAMA = PreTokenizer(_LLAMA3, whole=True)
_QWEN = PreTokenizer(_LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"), composed=True)
_QWEN35 = PreTokenizer(
    _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
    .replace(r"?\p{L}+", r"?[\p{L}\p{M}]+")
    .replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]"),
    composed=True,
)
_GPT4O = PreTokenizer(_by_case(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}"))
_TEKKEN = PreTokenizer(_by_case("", r"\p{N}"), whole=True)

# By llama.cpp's names.
CUTS: Mapping[str, PreTokenizer] = MappingProxyType(
    {
        "gpt-2": _GPT2,
        **dict.fromkeys(("mpt", "olmo", "jais", "phi-2", "trillion"), _GPT2),
        "smollm": _SMOLLM,
        **dict.fromkeys(("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _SMOLLM),
        "llama-bpe": _LLAMA,
        **dict.fromkeys(("llama3", "llama-v3", "falcon3", "pixtral", "lfm2"), _LLAMA),
        **dict.fromkeys(("dbrx", "smaug-bpe"), PreTokenizer(_LLAMA3)),
        "qwen2": _QWEN,
        "qwen35": _QWEN35,
        **dict.fromkeys(("deepseek-r1-qwen", "stablelm2"), _QWEN),
        "gpt-4o": _GPT4O,
        "tekken": _TEKKEN,
    }
)
_UNTOLD = (None, "", "default")
# The narrowest first: a vocabulary of one also fits those below it that are wider.
_TELLABLE = ("smollm", "gpt-2", "tekken", "qwen2", "gpt-4o", "llama-bpe")
_SAMPLE = 12_000  # tokens that are looked at
_ENOUGH = 100  # with fewer, what a vocabulary does not have says nothing
_ALIKE, _DOUBTFUL = 0.0005, 0.002  # shares of tokens that a way would cut


def cut_of(stated: object, tokens: Sequence[str], source: Path) -> tuple[PreTokenizer, str | None]:
    """The way of cutting, and what there is to say where the file does not name it.

    `tokens` are the ordinary ones, as the file writes them. Raises `InvalidModel` for an unknown name.
    """
    if stated not in _UNTOLD:
        if not isinstance(stated, str) or stated not in CUTS:
            raise InvalidModel(source, f"text is cut as {stated!r}; known ways: {', '.join(CUTS)}")
        return CUTS[stated], None
    name, share = _told(tokens)
    said = f"{source.name} does not say how text is cut before it becomes tokens (tokenizer.ggml.pre)"
    if share > _DOUBTFUL:
        return CUTS[name], f"{said}, and its vocabulary fits none of the known ways: answers will be worse"
    return CUTS[name], f"{said}; by its vocabulary it is cut as {name}"


def cutters(cut: PreTokenizer) -> list[dict[str, object]]:
    """The steps of a tokenizer.json's `pre_tokenizer`."""
    found: list[dict[str, object]] = []
    if cut.digits:
        found.append({"type": "Digits", "individual_digits": True})
    if cut.pattern is not None:
        split = {"pattern": {"Regex": cut.pattern}, "behavior": "Isolated", "invert": False}
        found.append({"type": "Split", **split})
    return [*found, {**BYTE_LEVEL, "use_regex": cut.pattern is None}]


BYTE_LEVEL: Mapping[str, object] = MappingProxyType(
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
)


def _told(tokens: Sequence[str]) -> tuple[str, float]:
    """The way that would cut the fewest of a vocabulary's tokens, and their share."""
    texts = list(_texts(tokens))
    if not texts:
        return "gpt-2", 0.0
    shares = {name: _share(CUTS[name], texts) for name in _TELLABLE}
    least = min(shares.values())
    alike = [name for name in _TELLABLE if shares[name] <= least + _ALIKE]
    if len(texts) < _ENOUGH:
        alike = [name for name in ("gpt-2", "llama-bpe") if name in alike] or alike
    return alike[0], shares[alike[0]]


def _texts(tokens: Sequence[str]) -> Iterable[str]:
    """What tokens of two characters and more stand for, evenly taken out of all.

    In ASCII, where the ways differ most: with marks of other scripts even the right one is not exact.
    """
    from tokenizers.decoders import ByteLevel

    decoder = ByteLevel()
    long = [token for token in tokens if len(token) > 1]
    for token in long[:: max(1, len(long) // _SAMPLE)]:
        text = str(decoder.decode([token]))
        if len(text) > 1 and text.isascii():
            yield text


def _share(cut: PreTokenizer, texts: Sequence[str]) -> float:
    """Of `texts` which `cut` would take apart."""
    import json

    from tokenizers import Tokenizer

    steps = {"type": "Sequence", "pretokenizers": cutters(cut)}
    empty = {"version": "1.0", "pre_tokenizer": steps, "model": {"type": "BPE", "vocab": {}, "merges": []}}
    cutter = Tokenizer.from_str(json.dumps(empty)).pre_tokenizer
    return sum(len(cutter.pre_tokenize_str(text)) > 1 for text in texts) / len(texts)
