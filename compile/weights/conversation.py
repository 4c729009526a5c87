"""MLC's own description of a chat format, which its engine reads instead of the tokenizer's Jinja template.

Our engine uses the Jinja template where there is one; this makes the same directory usable by mlc_llm, and
older ones usable at all. Fields and placeholders are those of MLC's `Conversation`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edge_router.compile.weights.chat_formats import DEFAULTS, FORMATS, Format
from edge_router.errors import UnknownName

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
    name = _kind(template or "")
    if name != "chatml":
        return _complete(name, FORMATS[name], end_ids, begin_id)
    # A system message that the template itself supplies, as SmolLM's and Qwen's do.
    own = re.search(r"<\|im_start\|>system(?:\n|\\n)([^'\"{}<]+)<\|im_end\|>", template or "")
    form = {**FORMATS[name], "system_message": own[1]} if own else FORMATS[name]
    return _complete(name, form, end_ids, None)


def named_conversation(
    name: str, *, end_ids: Sequence[int], begin_id: int | None = None
) -> dict[str, object]:
    """For the bare name that older repositories hold. Raises `UnknownName`."""
    if name not in FORMATS:
        raise UnknownName("conv_template", name, tuple(sorted(FORMATS)))
    form = FORMATS[name]
    return _complete(name, form, end_ids, begin_id if form.get("begins") else None)


def _kind(template: str) -> str:
    if "<|im_start|>" in template:
        return "chatml"
    if "<|start_header_id|>" in template:
        return "llama-3"
    if "<start_of_turn>" in template:
        return "gemma_instruction"
    if "<|user|>" in template and "<|end|>" in template:
        return "phi-3"
    if "[INST]" in template:
        return "llama-2" if "<<SYS>>" in template else "mistral_default"
    return "LM"


def _complete(name: str, form: Format, end_ids: Sequence[int], begin_id: int | None) -> dict[str, object]:
    parts = {**DEFAULTS, **form}
    return {
        "name": name,
        "system_template": parts["system_template"],
        "system_message": parts["system_message"],
        **({} if begin_id is None else {"system_prefix_token_ids": [begin_id]}),
        "add_role_after_system_message": parts["add_role_after_system_message"],
        "roles": dict(parts["roles"]),
        "role_templates": {**_ROLE_TEMPLATES, **parts["role_templates"]},
        "messages": [],
        "seps": list(parts["seps"]),
        "role_content_sep": parts["role_content_sep"],
        "role_empty_sep": parts.get("role_empty_sep", parts["role_content_sep"]),
        "stop_str": list(parts["stop_str"]),
        "stop_token_ids": list(end_ids),
        "strip_reasoning_in_history": False,
        "function_string": "",
        "use_function_calling": False,
    }
