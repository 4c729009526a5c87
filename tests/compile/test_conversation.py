"""MLC's description of chat formats, told from a Jinja template or from an old repository's bare name."""

from __future__ import annotations

import pytest

from edge_router.compile.conversation import conversation, named_conversation

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
    ("old", "name"),
    [
        ("chatml_nosystem", "chatml"),
        ("qwen2", "chatml"),
        ("llama-3_1", "llama-3"),
        ("llama-2", "llama-2"),
        ("mistral_default", "mistral_default"),
        ("gemma_instruction", "gemma_instruction"),
        ("phi-3", "phi-3"),
        ("qwen3", "chatml"),
        ("gorilla-openfunctions-v2", "gorilla-openfunctions-v2"),
        ("LM", "LM"),
        ("something else", "LM"),
    ],
)
def test_names_of_older_repositories(old: str, name: str) -> None:
    parts = named_conversation(old, end_ids=[7])
    assert (parts["name"], parts["stop_token_ids"]) == (name, [7])
