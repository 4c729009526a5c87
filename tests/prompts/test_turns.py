"""What ends an answer, told from everything that a model directory says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from edge_router.compile.weights.conversation import named_conversation
from edge_router.engines.local.reading.answer import AnswerDecoder
from edge_router.engines.local.sampler import SampledToken
from edge_router.prompts.directory import ModelDirectory
from edge_router.prompts.template import ChatTemplate
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.prompts.turns import Turns

Maker = Callable[..., ModelDirectory]


@pytest.fixture
def model(tmp_path: Path, tokenizer_file: Callable[[str], Path]) -> Maker:
    """model(template, added=("<a>", ...), special=True, eos=name, **config) -> the directory read."""

    def make(
        template: str | None,
        *,
        added: Sequence[str] = (),
        special: bool = True,
        kind: str = "byte-level",
        eos: str | None = None,
        **config: Any,
    ) -> ModelDirectory:
        tokenizer = Tokenizer.from_file(str(tokenizer_file(kind)))
        described = json.loads(tokenizer.to_str())
        described["added_tokens"] = []
        tokenizer = Tokenizer.from_str(json.dumps(described))
        tokenizer.add_tokens([AddedToken(name, special=special, normalized=False) for name in added])
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        config_file = {"chat_template": template, "eos_token": eos}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config_file), encoding="utf-8")
        (tmp_path / "mlc-chat-config.json").write_text(json.dumps(config))
        return ModelDirectory.read(tmp_path, "m")

    return make


def ends(directory: ModelDirectory) -> set[str]:
    names = {token: name for name, token in directory.tokenizer.added.items()}
    return {names[token] for token in directory.end_tokens}


# family -> its tokens, what ends an answer, what opens a turn
MARKS = {
    "chatml": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|im_end|>", {"<|im_start|>"}),
    "headers": (
        ["<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|eot_id|>",
        {"<|start_header_id|>", "<|end_header_id|>"},
    ),
    "system within the first": (
        ["<eos>", "<start_of_turn>", "<end_of_turn>", "\n"],
        "<end_of_turn>",
        {"<start_of_turn>"},
    ),
    "no system": (["<s>", "</s>"], "</s>", set()),
    "system left out": (["<s>", "</s>"], "</s>", set()),
    "calls": (["<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"], "<|im_end|>", {"<|im_start|>"}),
    "one call, nine letters": (["</s>", "[TOOL_CALLS]", "[user]"], "</s>", {"[user]"}),
    "calls without content": (
        ["<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<think>", "</think>"],
        "<｜end▁of▁sentence｜>",
        {"<｜User｜>"},
    ),
    "content in parts": (["<|im_start|>", "<|im_end|>"], "<|im_end|>", {"<|im_start|>"}),
}


@pytest.mark.parametrize("special", [True, False], ids=["special", "user-defined"])
@pytest.mark.parametrize("family", MARKS)
def test_what_the_template_writes_after_an_answer_ends_it(
    families: Mapping[str, str], model: Maker, family: str, special: bool
) -> None:
    added, end, opening = MARKS[family]
    directory = model(families[family], added=added, special=special)
    known_by_name = {"<|endoftext|>", "<|end_of_text|>"} & set(added)
    assert ends(directory) == {end} | opening | known_by_name
    assert directory.template is not None and directory.template.stops == ()


@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback"])
def test_marks_that_are_no_tokens_end_an_answer_as_texts(
    families: Mapping[str, str], model: Maker, kind: str
) -> None:
    for family, stop in (("headings", "\n### Instruction:"), ("chatml", "<|im_end|>"), ("headers", None)):
        directory = model(families[family], kind=kind)
        assert directory.template is not None
        wanted = stop or "<|eot_id|><|start_header_id|>user<|end_header_id|>"
        assert directory.template.stops == (wanted,) and not directory.end_tokens


def test_every_place_is_asked(families: Mapping[str, str], model: Maker) -> None:
    added = ["<a>", "<b>", "<c>", "<d>", "<|im_end|>", "<|im_start|>"]
    first = model("", added=added).tokenizer.added
    directory = model(
        families["chatml"],
        added=added,
        eos="<a>",
        eos_token_id=[first["<b>"]],
        conv_template={**named_conversation("chatml", end_ids=[first["<c>"]]), "stop_str": ["<d>", "###"]},
    )
    assert ends(directory) == {"<a>", "<b>", "<c>", "<d>", "<|im_end|>", "<|im_start|>"}
    assert directory.template is not None and directory.template.stops == ()


def test_a_directory_of_mlc_without_a_template_keeps_its_stops(model: Maker) -> None:
    conversation = {**named_conversation("conv_one_shot", end_ids=[2]), "stop_str": ["###"]}
    directory = model(None, added=["</s>"], conv_template=conversation)
    assert directory.template is not None and directory.template.stops[0] == "###"


@pytest.mark.parametrize("source", ["{{ raise_exception('no') }}", "{{ messages[0].content }}", "x"])
def test_a_template_that_tells_nothing_ends_nothing(model: Maker, source: str) -> None:
    directory = model(source, added=["<|im_end|>", "<x>"], eos="<x>")
    assert ends(directory) == {"<|im_end|>", "<x>"}


def test_an_answer_may_write_of_marks(families: Mapping[str, str], model: Maker) -> None:
    """The token ends it, the same letters do not."""
    directory = model(families["chatml"], added=["<|im_start|>", "<|im_end|>"])
    tokenizer, template = directory.tokenizer, directory.template
    assert template is not None
    words = "A turn ends with <|im_end|> and <|im_start|> opens one."
    answer = AnswerDecoder(tokenizer, end_tokens=directory.end_tokens, max_tokens=999, stops=template.stops)
    pieces = [answer.push(SampledToken(token)) for token in tokenizer.encode(tokenizer.guard(words))]
    assert "".join(piece.text for piece in pieces) == words
    assert not any(piece.finish_reason for piece in pieces)
    opening = tokenizer.token("<|im_start|>")
    assert opening is not None and answer.push(SampledToken(opening)).finish_reason == "stop"


# ---- guarding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("special", [True, False], ids=["special", "user-defined"])
@pytest.mark.parametrize("family", MARKS)
def test_no_message_holds_a_mark(
    families: Mapping[str, str], model: Maker, family: str, special: bool
) -> None:
    added = [name for name in MARKS[family][0] if name.strip() or not special]
    tokenizer = model(families[family], added=added, special=special).tokenizer
    text = "See " + " and ".join(added) + "; " + "".join(added) + "".join(name[:-1] + name for name in added)
    marks = {token for name, token in tokenizer.added.items() if name.strip()}
    assert marks <= set(tokenizer.encode(text))
    guarded = tokenizer.encode(tokenizer.guard(text))
    assert not marks & set(guarded)
    assert b"".join(map(tokenizer.token_bytes, guarded)).decode() == text


def test_white_space_stays_what_it_is(model: Maker) -> None:
    tokenizer = model("{{ messages[0].content }}", added=["\n\n", "    ", "<x>"], special=False).tokenizer
    assert tokenizer.guard("a\n\nb    c") == "a\n\nb    c"


def test_marks_within_marks_are_cut_too(model: Maker) -> None:
    added = ["<a><b>", "<b><c>", "<b>", "<a>", "<c>"]
    tokenizer = model("{{ messages[0].content }}", added=added, special=False).tokenizer
    for text in ("<a><b><c>", "<a><a><b><b><c><c>", "<<b>>", "<a<a><b>"):
        assert not set(tokenizer.added.values()) & set(tokenizer.encode(tokenizer.guard(text)))


def test_what_the_normalizer_makes_a_mark_of_is_cut(tmp_path: Path, tokenizer_file: Any) -> None:
    from tokenizers import normalizers

    made = Tokenizer.from_file(str(tokenizer_file("byte-level")))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    made.add_tokens([AddedToken("<turn>", special=False, normalized=True)])
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = TextTokenizer(tmp_path / "tokenizer.json")
    turn = tokenizer.token("<turn>")
    for text in ("a ＜turn＞ b", "<TURN>", "x<Turn><turn>y＜TURN>"):
        assert turn in tokenizer.encode(text)
        assert turn not in tokenizer.encode(tokenizer.guard(text))


@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback"])
def test_marks_that_are_no_tokens_are_written_with_other_tokens(
    tmp_path: Path, tokenizer_file: Callable[[str], Path], kind: str
) -> None:
    described = json.loads(tokenizer_file(kind).read_text())
    vocabulary = described["model"]["vocab"]
    names = [*("[INST]/#:"), "[I", "NST]", "NS", "NST", "[INST]"]
    vocabulary |= {
        name: len(vocabulary) + 500 + i for i, name in enumerate(n for n in names if n not in vocabulary)
    }
    described["added_tokens"] = []
    described["model"]["merges"] += [["N", "S"], ["NS", "T"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    tokenizer = TextTokenizer(tmp_path / "tokenizer.json", ["[INST]"])
    mark = tokenizer.encode("[INST]")
    guarded = tokenizer.encode(tokenizer.guard("[INST]"))
    assert guarded != mark
    assert b"".join(map(tokenizer.token_bytes, guarded)) == b"".join(map(tokenizer.token_bytes, mark))


def test_what_the_model_said_keeps_its_thoughts_and_no_turns(
    families: Mapping[str, str], model: Maker
) -> None:
    added, _, _ = MARKS["calls without content"]
    tokenizer = model(families["calls without content"], added=added, special=False).tokenizer
    kept = tokenizer.encode(tokenizer.guard("".join(added), own=True))
    names = {name for name, token in tokenizer.added.items() if token in kept}
    assert names == {"<think>", "</think>"}


def test_what_looks_like_a_mark_of_the_template_is_found(families: Mapping[str, str]) -> None:
    def marks(name: str) -> tuple[str, ...]:
        return Turns.of(ChatTemplate(families[name], model="m")).marks

    assert set(marks("no system")) == {"[INST]", "[/INST]", "</s>"}
    assert set(marks("system left out")) == {"<|user|>", "<|assistant|>", "</s>"}
    assert set(marks("headings")) == {"### Instruction:", "### Response:"}
    assert set(marks("calls without content")) == {"<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"}
