"""Tokenizers of each kind that language models have, made on the spot, with a few hundred tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

SPECIAL = ("<|end|>", "<|im_start|>", "<|im_end|>")


def _byte_level() -> Tokenizer:
    """GPT-2's kind: every byte has a token, some pairs are merged, so characters are cut anywhere."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("ð", "Ł"), ("Ã", "©")]
    names = alphabet + ["".join(pair) for pair in merges]
    tokenizer = Tokenizer(models.BPE({name: index for index, name in enumerate(names)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _byte_fallback(*, strip: bool) -> Tokenizer:
    """Llama 2's kind: words begin with U+2581, unknown characters become bytes."""
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefgHW"]
    merges = [("▁", "a"), ("▁", "b"), ("a", "b")]
    names += ["".join(pair) for pair in merges]
    tokenizer = Tokenizer(
        models.BPE(
            {name: index for index, name in enumerate(names)},
            merges,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    prepend = [normalizers.Prepend("▁")] if strip else []
    tokenizer.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if strip else [])])
    return tokenizer


def _metaspace(scheme: str) -> Tokenizer:
    names = [("<unk>", 0.0), *((character, -3.0) for character in "▁abcdefgé日"), ("▁ab", -1.0), ("cd", -1.0)]
    tokenizer = Tokenizer(models.Unigram(names, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace("▁", prepend_scheme=scheme)
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": _byte_level,
    "byte-fallback": lambda: _byte_fallback(strip=True),
    "byte-fallback, nothing stripped": lambda: _byte_fallback(strip=False),
    "metaspace": lambda: _metaspace("always"),
    "metaspace, nothing prepended": lambda: _metaspace("never"),
}


def write(kind: str, file: Path) -> Path:
    """One of `KINDS` with the control tokens `SPECIAL` and the plain token <think>."""
    if not file.is_file():
        tokenizer = KINDS[kind]()
        tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
        tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
        tokenizer.save(str(file))
    return file
