"""How a GGUF file's tokenizer cuts text where the file does not say, and what its tokens are whatever it calls them."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers, trainers

from edge_router.compile.readers.gguf_cutting import CUTS, cut_of, cutters
from edge_router.compile.readers.gguf_tokenizer import doubt, generation_config, tokenizer_files
from edge_router.errors import InvalidModel

MADE = Path("made.gguf")
TELLABLE = ("gpt-2", "smollm", "llama-bpe", "qwen2", "gpt-4o", "tekken")
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def corpus() -> list[str]:
    """Texts with all that the ways of cutting differ in: numbers, capitals, endings, code, empty lines."""
    draw = random.Random(0)
    words = [
        "the",
        "House",
        "getValue",
        "userName",
        "don't",
        "It's",
        "they'll",
        "JSON",
        "iPhone",
        "über",
        "naïve",
    ]
    words += ["".join(draw.choices("aeioulnrst", k=draw.randrange(3, 9))) for _ in range(60)]
    marks = ["(", ")", "):", "{", "};", ");", "*/", "//", "==", "->", "...", "://", "_", "#", '"']
    gaps = [" ", "  ", "\n", "\n\n", "\r\n", "\n    ", "\t", "", ""]
    lines = []
    for _ in range(1500):
        parts = [
            draw.choice(
                (draw.choice(words), str(draw.randrange(10 ** draw.randrange(1, 6))), draw.choice(marks))
            )
            + draw.choice(gaps)
            for _ in range(12)
        ]
        lines.append("".join(parts))
    return lines


@pytest.fixture(scope="module")
def trained() -> dict[str, list[tuple[list[str], list[str]]]]:
    """Tokens and merges of vocabularies that were learnt with each way of cutting."""
    found: dict[str, list[tuple[list[str], list[str]]]] = {}
    for name in TELLABLE:
        steps = {"type": "Sequence", "pretokenizers": cutters(CUTS[name])}
        empty = {
            "version": "1.0",
            "pre_tokenizer": steps,
            "model": {"type": "BPE", "vocab": {}, "merges": []},
        }
        tokenizer = Tokenizer.from_str(json.dumps(empty))
        trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=BYTES, show_progress=False)
        tokenizer.train_from_iterator(corpus(), trainer)
        model = json.loads(tokenizer.to_str())["model"]
        tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
        found[name] = [(tokens, [" ".join(merge) for merge in model["merges"]])]
    return found


def fields(tokens: Sequence[str], merges: Sequence[str], **more: Any) -> dict[str, object]:
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": list(tokens),
        "tokenizer.ggml.token_type": [1] * len(tokens),
        "tokenizer.ggml.merges": list(merges),
        **{f"tokenizer.ggml.{key}": value for key, value in more.items()},
    }


def made(described: dict[str, object]) -> Tokenizer:
    return Tokenizer.from_str(tokenizer_files(described, MADE)["tokenizer.json"].decode())


@pytest.mark.parametrize("untold", [{}, {"pre": "default"}, {"pre": ""}], ids=["absent", "default", "empty"])
@pytest.mark.parametrize("name", TELLABLE)
def test_a_way_is_told_from_what_was_learnt_with_it(trained: Any, name: str, untold: dict[str, str]) -> None:
    tokens, merges = trained[name][0]
    right, guessed = made(fields(tokens, merges, pre=name)), made(fields(tokens, merges, **untold))
    for text in corpus()[:100]:
        assert guessed.encode(text).tokens == right.encode(text).tokens
    said = doubt(fields(tokens, merges, **untold), MADE)
    assert said is not None and said.endswith(f"by its vocabulary it is cut as {name}")
    assert doubt(fields(tokens, merges, pre=name), MADE) is None


def test_a_vocabulary_that_fits_no_way_is_said_loudly(caplog: pytest.LogCaptureFixture) -> None:
    tokens = [*BYTES, *(f"a{number}ĠbĊ{number}c" for number in range(3000))]
    with caplog.at_level(logging.WARNING):
        made(fields(tokens, []))
    assert "its vocabulary fits none of the known ways: answers will be worse" in caplog.text


def test_a_vocabulary_too_small_to_tell_is_cut_as_before() -> None:
    assert cut_of(None, [], MADE)[0] == CUTS["gpt-2"]
    assert cut_of(None, ["ab", "Ġt"], MADE)[0] == CUTS["gpt-2"]
    assert cut_of(None, ["):Ċ"], MADE)[0] == CUTS["llama-bpe"]


@pytest.mark.parametrize("stated", ["klingon", 3, ["gpt-2"], True])
def test_an_unknown_name_is_refused(stated: object) -> None:
    with pytest.raises(InvalidModel, match="known ways: gpt-2"):
        cut_of(stated, ["ab"], MADE)


# ---- types of tokens ---------------------------------------------------------------------------------------

ENDS = ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<｜end▁of▁sentence｜>", "<|endoftext|>"]


@pytest.mark.parametrize("model", ["gpt2", "llama"])
@pytest.mark.parametrize("kind", [1, 3, 4])
@pytest.mark.parametrize("end", ENDS)
def test_what_ends_a_turn_does_so_whatever_its_type(end: str, kind: int, model: str) -> None:
    tokens = ["<unk>", end, *(chr(code) for code in range(0x21, 0x7F)), "▁"]
    described = fields(tokens, [], model=model, pre="smollm", eos_token_id=0, scores=[0.0] * len(tokens))
    described["tokenizer.ggml.token_type"] = [2, kind, *[1] * (len(tokens) - 2)]
    assert generation_config(described)["eos_token_id"] == [0, 1]
    tokenizer = made(described)
    assert 1 in tokenizer.encode(f"a{end}b", add_special_tokens=False).ids
    assert tokenizer.get_added_tokens_decoder()[1].special


@pytest.mark.parametrize(
    ("mark", "special"),
    [("<|im_start|>", True), ("<|user|>", True), ("<｜User｜>", True), ("<think>", False), ("[INST]", False)],
)
def test_an_ordinary_token_that_nothing_merges_into_is_a_mark(mark: str, special: bool) -> None:
    letters = [chr(code) for code in range(0x21, 0x7F)]
    described = fields([*letters, mark], [], pre="smollm")
    tokenizer = made(described)
    assert tokenizer.encode(f"a{mark}").ids[-1] == len(letters)
    assert tokenizer.get_added_tokens_decoder()[len(letters)].special is special


def test_a_token_that_is_merged_stays_ordinary() -> None:
    letters = [chr(code) for code in range(0x21, 0x7F)]
    described = fields([*letters, "<b", "<b>"], ["< b", "<b >"], pre="smollm")
    assert not made(described).get_added_tokens_decoder()


@pytest.mark.parametrize("name", ["bos", "eos", "eot", "padding"])
@pytest.mark.parametrize("value", [-1, 10**6, "2", None, 2.0])
def test_a_token_that_does_not_exist_is_not_named(name: str, value: object) -> None:
    letters = [chr(code) for code in range(0x21, 0x7F)]
    described = fields(letters, [], pre="smollm", add_bos_token=True, **{f"{name}_token_id": value})
    assert not generation_config(described) and made(described)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"tokens": odd} for odd in ([], [1, 2], ["a", 1], 1, 0.5, "ab", True)),
        *({"token_type": odd} for odd in ([], [1], [1.5, 1.5], ["a", "b"], 1, "ab", False)),
        {"tokens": ["a"], "token_type": [1, 1]},
    ],
)
def test_lists_that_do_not_fit_are_named(wrong: dict[str, object]) -> None:
    described = fields(["a", "b"], [], pre="smollm")
    described |= {f"tokenizer.ggml.{key}": value for key, value in wrong.items()}
    generation_config(described)
    for read in (tokenizer_files, doubt):
        with pytest.raises(InvalidModel, match="a tokenizer of"):
            read(described, MADE)
