"""MLC's description of chat formats, told from a Jinja template or from an old repository's bare name."""

from __future__ import annotations

import pytest

from edge_router.compile.weights.chat_formats import FORMATS
from edge_router.compile.weights.conversation import conversation, named_conversation
from edge_router.errors import UnknownName

SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
)
FIELDS = {
    "name",
    "system_template",
    "system_message",
    "add_role_after_system_message",
    "roles",
    "role_templates",
    "messages",
    "seps",
    "role_content_sep",
    "role_empty_sep",
    "stop_str",
    "stop_token_ids",
    "strip_reasoning_in_history",
    "function_string",
    "use_function_calling",
}


def prompt(parts: dict[str, object], system: str, user: str) -> str:
    """How MLC joins a system message and one turn (protocol/conversation_protocol.py)."""
    first = str(parts["system_template"]).replace("{system_message}", system)
    roles, seps = parts["roles"], parts["seps"]
    assert isinstance(roles, dict) and isinstance(seps, list)
    again = parts["add_role_after_system_message"] or not system
    opened = str(roles["user"]) + str(parts["role_content_sep"]) if again else ""
    return f"{first}{opened}{user}{seps[0]}{roles['assistant']}{parts['role_empty_sep']}"


def test_smollms_template_with_its_own_system_message() -> None:
    parts = conversation(SMOLLM, end_ids=[2, 0], begin_id=1)
    assert set(parts) == FIELDS
    assert parts["system_message"] == "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert parts["stop_token_ids"] == [2, 0]
    expected = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert prompt(parts, "S", "U") == expected


@pytest.mark.parametrize(
    ("template", "name", "expected"),
    [
        (
            "{{ '<|start_header_id|>' + role }}",
            "llama-3",
            "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("[INST] <<SYS>> {{ content }}", "llama-2", "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] "),
        ("[INST] {{ content }}", "mistral_default", "[INST] SU [/INST]"),
        (
            "<start_of_turn>{{ role }}",
            "gemma_instruction",
            "S<start_of_turn>user\nU<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            "<|user|>{{ content }}<|end|>",
            "phi-3",
            "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\n",
        ),
        ("{{ messages[0].content }}", "LM", "SU"),
        (None, "LM", "SU"),
    ],
)
def test_other_formats(template: str | None, name: str, expected: str) -> None:
    parts = conversation(template, end_ids=[2], begin_id=1)
    assert parts["name"] == name
    assert prompt(parts, "S", "U") == expected
    assert parts["system_prefix_token_ids"] == [1]
    assert "system_prefix_token_ids" not in conversation(template, end_ids=[2])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chatml", "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"),
        ("chatml_nosystem", "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"),
        ("llama-2", "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] "),
        ("mistral_default", "[INST] SU [/INST]"),
        ("vicuna_v1.1", "SUSER: U ASSISTANT:"),
        ("tinyllama_v1_0", "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\n"),
        ("wizard_coder_or_math", "S\n\n### Instruction:\nU\n\n### Response:\n"),
        ("deepseek", "SUser: U\n\nAssistant:"),
        ("deepseek_r1_qwen", "S<｜User｜>U<｜Assistant｜>"),
        ("phi-4", "<|system|>S<|end|><|user|>U<|end|><|assistant|>"),
        ("gorilla-openfunctions-v2", "S### Instruction: U\n### Response: "),
    ],
)
def test_names_of_older_repositories(name: str, expected: str) -> None:
    parts = named_conversation(name, end_ids=[7], begin_id=1)
    assert (parts["name"], parts["stop_token_ids"]) == (name, [7])
    assert prompt(parts, "S", "U") == expected


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_one_of_mlcs(name: str) -> None:
    parts = named_conversation(name, end_ids=[7])
    assert set(parts) == FIELDS
    assert {"user", "assistant"} <= set(parts["roles"]) and 1 <= len(parts["seps"]) <= 2  # type: ignore[arg-type,call-overload]
    begun = named_conversation(name, end_ids=[7], begin_id=1).get("system_prefix_token_ids")
    assert begun == ([1] if FORMATS[name].get("begins") else None)


def test_an_unknown_name_says_what_is_known() -> None:
    with pytest.raises(UnknownName, match=r"conv_template named 'something else'.*llama-3"):
        named_conversation("something else", end_ids=[7])
