"""SentencePiece vocabularies in GGUF files, against its own way of joining pieces, written out."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import SentencePieceBPETokenizer, Tokenizer

from edge_router.compile.readers.gguf_tokenizer import tokenizer_files
from edge_router.errors import InvalidModel

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
WORDS = ["▁the", "▁th", "he", "▁t", "th", "ing", "in", "ng", "▁a", "an", "nd", "▁and", "▁an", "er", "é", "▁▁"]
LETTERS = "▁abcdefghilnrst.,"


def fields(*, prefix: bool = True, seed: int = 0) -> dict[str, object]:
    """As Llama 2's converter writes them: control tokens, 256 bytes, then pieces with falling scores."""
    specials = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL), ("<|user|>", USER_DEFINED)]
    pieces = list(dict.fromkeys([*WORDS, *LETTERS]))
    scores = -np.random.default_rng(seed).permutation(len(pieces)).astype(float) - 1
    tokens = [*(name for name, _ in specials), *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * (len(specials) + 256) + scores.tolist(),
        "tokenizer.ggml.token_type": [kind for _, kind in specials] + [BYTE] * 256 + [NORMAL] * len(pieces),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": prefix,
    }


def made(given: dict[str, object]) -> Tokenizer:
    files = tokenizer_files(given, Path("t.gguf"))
    return Tokenizer.from_str(files["tokenizer.json"].decode())


def joined(text: str, given: dict[str, object]) -> list[int]:
    """SentencePiece's: of all neighbours that give a piece join those of the highest score, the first first."""
    tokens, scores = given["tokenizer.ggml.tokens"], given["tokenizer.ggml.scores"]
    assert isinstance(tokens, list) and isinstance(scores, list)
    known = {token: number for number, token in enumerate(tokens)}
    pieces = list(("▁" if given["tokenizer.ggml.add_space_prefix"] else "") + text.replace(" ", "▁"))
    while True:
        pairs = [(scores[known[a + b]], -at) for at, (a, b) in enumerate(pairwise(pieces)) if a + b in known]
        if not pairs:
            break
        at = -max(pairs)[1]
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    found: list[int] = []
    for piece in pieces:
        found += (
            [known[piece]] if piece in known else [known[f"<0x{byte:02X}>"] for byte in piece.encode("utf-8")]
        )
    return found


TEXTS = st.text(st.sampled_from([*"abcdefghinrst .,", "é", "☃", "\n"]), min_size=1, max_size=40)


@pytest.mark.parametrize("prefix", [True, False])
@given(text=TEXTS, seed=st.integers(0, 20))
def test_text_is_cut_as_sentencepiece_does(prefix: bool, text: str, seed: int) -> None:
    given_fields = fields(prefix=prefix, seed=seed)
    assert made(given_fields).encode(text, add_special_tokens=False).ids == joined(text, given_fields)


@pytest.mark.parametrize("prefix", [True, False])
@given(text=TEXTS)
def test_text_comes_back(prefix: bool, text: str) -> None:
    tokenizer = made(fields(prefix=prefix))
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_special_tokens_are_found_in_the_text() -> None:
    tokenizer = made(fields())
    ids = tokenizer.encode("<|user|>the</s>", add_special_tokens=False).ids
    assert ids[0] == 3 and ids[-1] == 2
    assert tokenizer.encode("the").ids[0] == 1  # the beginning, unless the file says otherwise
    without = made({**fields(), "tokenizer.ggml.add_bos_token": False})
    assert without.encode("the").ids[0] != 1
    described = json.loads(tokenizer_files(fields(), Path("t.gguf"))["tokenizer_config.json"])
    assert described["add_bos_token"] is True and described["eos_token"] == "</s>"


def test_it_is_what_the_tokenizers_package_trains() -> None:
    """A vocabulary from there, its merges' order as scores, gives its tokens."""
    theirs = SentencePieceBPETokenizer()
    text = "the cat and the hat sat on the mat and then another cat came and then the hat was gone " * 3
    theirs.train_from_iterator([text], vocab_size=60, special_tokens=["<unk>"], show_progress=False)
    vocabulary = theirs.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    given_fields = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(number) for number in range(len(tokens))],
        "tokenizer.ggml.token_type": [UNKNOWN, *[NORMAL] * (len(tokens) - 1)],
        "tokenizer.ggml.add_bos_token": False,
    }
    for sample in (text, "the then that cats", "another mat"):
        assert made(given_fields).encode(sample).ids == theirs.encode(sample).ids


def test_gaps_are_named() -> None:
    bad = fields()
    bad["tokenizer.ggml.scores"] = [0.0]
    with pytest.raises(InvalidModel, match=r"of \d+ tokens without their scores"):
        made(bad)
    with pytest.raises(InvalidModel, match="the unknown token is 100000"):
        made({**fields(), "tokenizer.ggml.unknown_token_id": 100000})


def test_a_whole_file(tmp_path: Path) -> None:
    """Through the file and the reader, as a Mistral comes."""
    import gguf

    from edge_router.compile.readers import open_weights

    given_fields, writer = fields(), gguf.GGUFWriter(tmp_path / "s.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(given_fields["tokenizer.ggml.tokens"])
    writer.add_token_scores(given_fields["tokenizer.ggml.scores"])
    writer.add_token_types(given_fields["tokenizer.ggml.token_type"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_tensor("token_embd.weight", np.zeros((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    reader = open_weights(tmp_path / "s.gguf")
    tokenizer = Tokenizer.from_str(reader.tokenizer_files()["tokenizer.json"].decode())
    assert tokenizer.encode("the and", add_special_tokens=False).ids == joined("the and", given_fields)
    assert reader.generation == {"bos_token_id": 1, "eos_token_id": 2}
