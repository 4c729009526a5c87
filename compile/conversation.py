"""MLC's own description of a chat format, which its engine reads instead of the tokenizer's Jinja template.

Our engine uses the Jinja template; this makes the same directory usable by mlc_llm. Fields and placeholders
are those of MLC's `Conversation`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import cast

_ROLE_TEMPLATES = {
    "user": "{user_message}",
    "assistant": "{assistant_message}",
    "tool": "{tool_message}",
}


def conversation(
    template: str | None, *, end_ids: Sequence[int], begin_id: int | None = None
) -> dict[str, object]:
    """The `conv_template` object for a Jinja chat template.

    `end_ids` are the tokens that end an answer, `begin_id` the token that starts a text. A template of an
    unknown kind, or none, gives MLC's "LM", which joins the messages with nothing between them.
    """
    text = template or ""
    if "<|im_start|>" in text:
        return _complete(_chatml(text), end_ids, None)
    if "<|start_header_id|>" in text:
        return _complete(_llama3(), end_ids, begin_id)
    if "<start_of_turn>" in text:
        return _complete(_gemma(), end_ids, begin_id)
    if "<|user|>" in text and "<|end|>" in text:
        return _complete(_phi3(), end_ids, begin_id)
    if "[INST]" in text:
        return _complete(_llama2() if "<<SYS>>" in text else _mistral(), end_ids, begin_id)
    return _complete(_plain(), end_ids, begin_id)


def named_conversation(name: str, *, end_ids: Sequence[int]) -> dict[str, object]:
    """For the bare name that older repositories hold; an unknown one gives "LM"."""
    if name.startswith(("chatml", "qwen", "hermes")):
        return _complete(_chatml(""), end_ids, None)
    if name.startswith("llama-3"):
        return _complete(_llama3(), end_ids, None)
    if name.startswith(("llama-2", "codellama_instruct")):
        return _complete(_llama2(), end_ids, None)
    others = {"mistral": _mistral, "gemma": _gemma, "phi-3": _phi3, "gorilla-openfunctions-v2": _gorilla2}
    for start, make in others.items():
        if name.startswith(start):
            return _complete(make(), end_ids, None)
    return _complete(_plain(), end_ids, None)


def _complete(parts: Mapping[str, object], end_ids: Sequence[int], begin_id: int | None) -> dict[str, object]:
    return {
        "name": parts["name"],
        "system_template": parts.get("system_template", "{system_message}"),
        "system_message": parts.get("system_message", ""),
        **({} if begin_id is None else {"system_prefix_token_ids": [begin_id]}),
        "add_role_after_system_message": parts["name"] not in ("llama-2", "mistral_default"),
        "roles": parts["roles"],
        "role_templates": {**_ROLE_TEMPLATES, **cast("Mapping[str, str]", parts.get("role_templates", {}))},
        "messages": [],
        "seps": parts["seps"],
        "role_content_sep": parts.get("role_content_sep", ""),
        "role_empty_sep": parts.get("role_empty_sep", parts.get("role_content_sep", "")),
        "stop_str": parts.get("stop_str", []),
        "stop_token_ids": list(end_ids),
        "strip_reasoning_in_history": False,
        "function_string": "",
        "use_function_calling": False,
    }


def _plain() -> Mapping[str, object]:
    return {"name": "LM", "roles": {"user": "", "assistant": ""}, "seps": [""]}


def _chatml(template: str) -> Mapping[str, object]:
    # A system message that the template itself supplies, as SmolLM's and Qwen's do.
    default = re.search(r"<\|im_start\|>system(?:\n|\\n)([^'\"{}<]+)<\|im_end\|>", template)
    return {
        "name": "chatml",
        "system_template": "<|im_start|>system\n{system_message}<|im_end|>\n",
        "system_message": default[1] if default else "You are a helpful assistant.",
        "roles": {"user": "<|im_start|>user", "assistant": "<|im_start|>assistant"},
        "seps": ["<|im_end|>\n"],
        "role_content_sep": "\n",
        "stop_str": ["<|im_end|>"],
    }


def _llama3() -> Mapping[str, object]:
    start, end = "<|start_header_id|>", "<|end_header_id|>\n\n"
    return {
        "name": "llama-3",
        "system_template": f"{start}system{end}{{system_message}}<|eot_id|>",
        "system_message": "You are a helpful assistant.",
        "roles": {"user": f"{start}user", "assistant": f"{start}assistant", "tool": f"{start}ipython"},
        "seps": ["<|eot_id|>"],
        "role_content_sep": end,
        "stop_str": ["<|eot_id|>"],
    }


def _llama2() -> Mapping[str, object]:
    return {
        "name": "llama-2",
        "system_template": "[INST] <<SYS>>\n{system_message}\n<</SYS>>\n\n",
        "system_message": "You are a helpful assistant.",
        "roles": {"user": "<s>[INST]", "assistant": "[/INST]", "tool": "[INST]"},
        "seps": [" ", " </s>"],
        "role_content_sep": " ",
        "stop_str": ["[INST]"],
    }


def _mistral() -> Mapping[str, object]:
    return {
        "name": "mistral_default",
        "system_template": "[INST] {system_message}",
        "roles": {"user": "[INST]", "assistant": "[/INST]", "tool": "[INST]"},
        "seps": [" "],
        "role_content_sep": " ",
        "role_empty_sep": "",
        "stop_str": ["</s>"],
    }


def _gemma() -> Mapping[str, object]:
    return {
        "name": "gemma_instruction",
        "roles": {"user": "<start_of_turn>user", "assistant": "<start_of_turn>model"},
        "seps": ["<end_of_turn>\n"],
        "role_content_sep": "\n",
        "stop_str": ["<end_of_turn>"],
    }


def _phi3() -> Mapping[str, object]:
    return {
        "name": "phi-3",
        "system_template": "<|system|>\n{system_message}<|end|>\n",
        "system_message": "You are a helpful assistant.",
        "roles": {"user": "<|user|>", "assistant": "<|assistant|>"},
        "seps": ["<|end|>\n"],
        "role_content_sep": "\n",
        "stop_str": ["<|endoftext|>"],
    }


def _gorilla2() -> Mapping[str, object]:
    return {
        "name": "gorilla-openfunctions-v2",
        "role_templates": {"user": "<<function>>{function_string}\n<<question>>{user_message}"},
        "roles": {"user": "### Instruction", "assistant": "### Response", "tool": "### Instruction"},
        "seps": ["\n", "<|EOT|>"],
        "role_content_sep": ": ",
        "stop_str": ["<|EOT|>"],
    }
