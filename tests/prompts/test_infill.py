"""How models for code are asked for the text between two."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, processors

from edge_router.prompts.infill import Infill
from edge_router.prompts.tokenizer import TextTokenizer

write = runpy.run_path(str(Path(__file__).parents[1] / "small_tokenizers.py"))["write"]
# kind of tokenizer, name, tokens of its own, what it puts before a text, the prompt for "ab" and "cd"
ROWS = (
    ("byte-level", "Qwen2.5-Coder-1.5B", ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"), "",
     ["<|fim_prefix|>", "ab", "<|fim_suffix|>", "cd", "<|fim_middle|>"]),
    ("byte-level", "starcoder2-3b", ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"), "",
     ["<fim_prefix>", "ab", "<fim_suffix>", "cd", "<fim_middle>"]),
    ("byte-level", "deepseek-coder-1.3b", ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"), "<|end|>",
     ["<|end|>", "<｜fim▁begin｜>", "ab", "<｜fim▁hole｜>", "cd", "<｜fim▁end｜>"]),
    ("byte-fallback", "CodeLlama-7b", ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"), "<|end|>",
     ["<|end|>", "▁<PRE>", " ab", "▁<SUF>", "cd", "▁<MID>"]),
    ("byte-fallback, nothing stripped", "codegemma-2b", ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
     "<|end|>", ["<|end|>", "<|fim_prefix|>", "ab", "<|fim_suffix|>", "cd", "<|fim_middle|>"]),
    ("byte-fallback", "Codestral-22B", ("[PREFIX]", "[SUFFIX]"), "<|end|>",
     ["<|end|>", "[SUFFIX]", "cd", "[PREFIX]", " ab"]),
)  # fmt: skip


def made(folder: Path, kind: str, names: tuple[str, ...], first: str) -> TextTokenizer:
    file = write(kind, folder / f"{kind} {'-'.join(map(str, map(len, names)))}.json")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    if first:
        tokenizer.post_processor = processors.TemplateProcessing(
            f"{first} $A", special_tokens=[(first, tokenizer.token_to_id(first))]
        )
    tokenizer.save(str(file))
    return TextTokenizer(file)


def written(tokenizer: TextTokenizer, tokens: list[int]) -> list[str]:
    """Control tokens by their names, and the texts between them."""
    names, found = {token: name for name, token in tokenizer.added.items()}, [""]
    for token in tokens:
        if token in names:
            found += [names[token], ""]
        else:
            found[-1] += tokenizer.token_bytes(token).decode()
    return [piece for piece in found if piece]


def test_the_prompt_is_what_the_family_was_trained_on(tmp_path: Path) -> None:
    for kind, name, names, first, wanted in ROWS:
        tokenizer = made(tmp_path, kind, names, first)
        infill = Infill.of(tokenizer, name)
        assert infill is not None, name
        assert written(tokenizer, infill.prompt("ab", "cd")) == wanted, name
        assert {tokenizer.token(each) for each in names} <= infill.ends, name
        if kind == "byte-level":  # what looks like a mark in a file is none
            hostile = infill.prompt(f"a{names[0]}", names[-1])
            assert sum(token in infill.ends for token in hostile) == len(names) + (first == "<|end|>") * 0, (
                name
            )


def test_tokens_alone_do_not_tell_that_a_model_was_taught(tmp_path: Path) -> None:
    """Qwen's other models have the same vocabulary as its coders."""
    shared = made(tmp_path, "byte-level", ROWS[0][2], "")
    assert Infill.of(shared, "Qwen2.5-0.5B-Instruct") is None
    assert Infill.of(made(tmp_path, "byte-level", ROWS[1][2], ""), "a-model-of-mine") is not None
    assert Infill.of(made(tmp_path, "byte-level", ("<fim_prefix>",), ""), "starcoder") is None


@pytest.mark.parametrize("text", ["", " ", "x\n", "é"])
def test_either_text_may_be_anything(tmp_path: Path, text: str) -> None:
    kind, name, names, first, _ = ROWS[0]
    tokenizer = made(tmp_path, kind, names, first)
    infill = Infill.of(tokenizer, name)
    assert infill is not None
    for prefix, suffix in ((text, "cd"), ("ab", text)):
        wanted = [names[0], prefix, names[1], suffix, names[2]]
        assert written(tokenizer, infill.prompt(prefix, suffix)) == [piece for piece in wanted if piece]
