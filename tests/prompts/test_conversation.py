"""Prompts by MLC's conv_template, and which of a directory's descriptions is believed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_router.chat.message import Message
from edge_router.compile.weights.conversation import named_conversation
from edge_router.errors import InvalidModel
from edge_router.prompts.conversation import Conversation
from edge_router.prompts.directory import ModelDirectory
from edge_router.surfaces.openai.parse import parse_messages

TALK = [Message("user", "A"), Message("assistant", "B"), Message("user", "C")]


def named(name: str) -> Conversation:
    found = Conversation.of(named_conversation(name, end_ids=[2], begin_id=1), "m")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "alone", "told"),
    [
        (
            "llama-2",
            "[INST] <<SYS>>\nYou are a helpful assistant.\n<</SYS>>\n\nA [/INST] B </s><s>[INST] C [/INST] ",
            "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nA [/INST] B </s><s>[INST] C [/INST] ",
        ),
        ("mistral_default", "[INST] A [/INST] B [INST] C [/INST]", "[INST] Be brief.A [/INST] B [INST] C [/INST]"),
        (
            "gemma_instruction",
            "<start_of_turn>user\nA<end_of_turn>\n<start_of_turn>model\nB<end_of_turn>\n"
            "<start_of_turn>user\nC<end_of_turn>\n<start_of_turn>model\n",
            "Be brief.<start_of_turn>user\nA<end_of_turn>\n<start_of_turn>model\nB<end_of_turn>\n"
            "<start_of_turn>user\nC<end_of_turn>\n<start_of_turn>model\n",
        ),
        ("deepseek_r1_qwen", "<｜User｜>A<｜Assistant｜>B<｜end▁of▁sentence｜><｜User｜>C<｜Assistant｜>",
         "Be brief.<｜User｜>A<｜Assistant｜>B<｜end▁of▁sentence｜><｜User｜>C<｜Assistant｜>"),
    ],
)  # fmt: skip
def test_turns(name: str, alone: str, told: str) -> None:
    template = named(name)
    assert template.render(TALK) == alone
    assert template.render([*TALK, Message("system", "Be brief.")]) == told
    assert template.begin == (1,)


def test_what_a_user_writes_is_never_a_placeholder() -> None:
    template = named("gorilla-openfunctions-v2")
    prompt = template.render([Message("user", "{function_string}{user_message}")])
    assert (
        prompt == "### Instruction: <<function>>\n<<question>>{function_string}{user_message}\n### Response: "
    )
    assert named("chatml").render([Message("user", "<x>")], guard=lambda text: text.upper()).count("<X>") == 1


CALLED = {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}}


def test_roles_that_a_format_does_not_know_are_the_users() -> None:
    assert "<|im_start|>user\nfound<|im_end|>" in named("chatml").render(
        parse_messages([CALLED, {"role": "function", "name": "f", "content": "found"}])
    )
    assert "ipython<|end_header_id|>\n\nfound" in named("llama-3").render([Message("tool", "found")])


@pytest.mark.parametrize("broken", [{"seps": []}, {"seps": ["a", "b", "c"]}, {"roles": {"user": "U"}}])
def test_a_broken_one_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(InvalidModel, match="conv_template"):
        Conversation.of({**named_conversation("chatml", end_ids=[2]), **broken}, "m")


def test_the_tokenizers_own_template_comes_first(
    tmp_path: Path, tokenizer_file: Callable[[str], Path]
) -> None:
    shutil.copyfile(tokenizer_file("byte-level"), tmp_path / "tokenizer.json")
    config: dict[str, object] = {"conv_template": named_conversation("chatml", end_ids=[2])}
    (tmp_path / "mlc-chat-config.json").write_text(json.dumps(config))

    def template() -> Any:
        return ModelDirectory.read(tmp_path, "m").template

    assert template().stops == ("<|im_end|>",)
    described = tmp_path / "tokenizer_config.json"
    described.write_text(json.dumps({"chat_template": "T{{ messages[0].content }}"}))
    assert template().render(TALK) == "TA"
    (tmp_path / "chat_template.jinja").write_text("J{{ messages[0].content }}")
    assert template().render(TALK) == "JA"
    for file in (described, tmp_path / "chat_template.jinja"):
        file.unlink()
    config["conv_template"] = named_conversation("LM", end_ids=[2])
    (tmp_path / "mlc-chat-config.json").write_text(json.dumps(config))
    assert template() is None
