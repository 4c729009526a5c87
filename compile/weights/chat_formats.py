"""Chat formats by the names that MLC's repositories give them, as data in the terms of MLC's `Conversation`.

Whatever a format leaves out is as in `DEFAULTS`. `begins`: a text starts with the tokenizer's token for that.
The names are those of mlc_llm/conversation_template and of the older cpp/conv_templates.cc, as far as
they belong to architectures that can be compiled here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Format = Mapping[str, Any]

_HELPFUL = "You are a helpful assistant."
_CURIOUS = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions."
)
DEFAULTS: Format = MappingProxyType(
    {
        "system_template": "{system_message}",
        "system_message": "",
        "add_role_after_system_message": True,
        "role_templates": {},
        "role_content_sep": "",
        "stop_str": [],
        "begins": False,
    }
)
_CHATML: Format = {
    "system_template": "<|im_start|>system\n{system_message}<|im_end|>\n",
    "system_message": _HELPFUL,
    "roles": {"user": "<|im_start|>user", "assistant": "<|im_start|>assistant"},
    "seps": ["<|im_end|>\n"],
    "role_content_sep": "\n",
    "stop_str": ["<|im_end|>"],
}
_START, _END = "<|start_header_id|>", "<|end_header_id|>\n\n"
_LLAMA3: Format = {
    "system_template": f"{_START}system{_END}{{system_message}}<|eot_id|>",
    "system_message": _HELPFUL,
    "roles": {"user": f"{_START}user", "assistant": f"{_START}assistant", "tool": f"{_START}ipython"},
    "seps": ["<|eot_id|>"],
    "role_content_sep": _END,
    "stop_str": ["<|eot_id|>"],
    "begins": True,
}
_INST: Format = {
    "roles": {"user": "[INST]", "assistant": "[/INST]", "tool": "[INST]"},
    "seps": [" "],
    "role_content_sep": " ",
    "stop_str": ["</s>"],
    "begins": True,
}
_NAMED: Format = {  # turns begin with a name
    "system_message": _CURIOUS,
    "roles": {"user": "USER", "assistant": "ASSISTANT"},
    "seps": ["\n", "</s>"],
    "role_content_sep": ": ",
    "role_empty_sep": ":",
    "stop_str": ["</s>"],
    "begins": True,
}
_GEMMA: Format = {
    "roles": {"user": "<start_of_turn>user", "assistant": "<start_of_turn>model"},
    "seps": ["<end_of_turn>\n"],
    "role_content_sep": "\n",
    "stop_str": ["<end_of_turn>"],
    "begins": True,
}
_DEEPSEEK: Format = {
    "roles": {"user": "User", "assistant": "Assistant"},
    "seps": ["\n\n", "<｜end▁of▁sentence｜>"],
    "role_content_sep": ": ",
    "role_empty_sep": ":",
    "stop_str": ["<｜end▁of▁sentence｜>"],
    "begins": True,
}
_DEEPSEEK_R1: Format = {
    "roles": {"user": "<｜User｜>", "assistant": "<｜Assistant｜>"},
    "seps": ["", "<｜end▁of▁sentence｜>"],
    "stop_str": ["<｜end▁of▁sentence｜>"],
    "begins": True,
}
_PHI: Format = {
    "system_template": "<|system|>\n{system_message}<|end|>\n",
    "system_message": _HELPFUL,
    "roles": {"user": "<|user|>", "assistant": "<|assistant|>"},
    "seps": ["<|end|>\n"],
    "role_content_sep": "\n",
    "stop_str": ["<|endoftext|>"],
    "begins": True,
}
_FUNCTIONS = {"user": "<<function>>{function_string}\n<<question>>{user_message}"}

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "LM": {"roles": {"user": "", "assistant": ""}, "seps": [""], "begins": True},
        "chatml": _CHATML,
        "chatml_nosystem": {**_CHATML, "system_template": "", "system_message": ""},
        "qwen2": _CHATML,
        "qwen3": {**_CHATML, "system_template": "", "system_message": ""},
        "open_hermes_mistral": {**_CHATML, "system_message": 'You are "Hermes 2".'},
        "neural_hermes_mistral": {**_CHATML, "system_message": "You are a helpful assistant chatbot."},
        "hermes2_pro_llama3": {**_CHATML, "system_message": 'You are "Hermes 2".'},
        "hermes3_llama-3_1": {**_CHATML, "begins": True},
        "llama-3": _LLAMA3,
        "llama-3_1": _LLAMA3,
        "llama-2": {
            "system_template": "[INST] <<SYS>>\n{system_message}\n<</SYS>>\n\n",
            "system_message": _HELPFUL,
            "add_role_after_system_message": False,
            "roles": {"user": "<s>[INST]", "assistant": "[/INST]", "tool": "[INST]"},
            "seps": [" ", " </s>"],
            "role_content_sep": " ",
            "stop_str": ["[INST]"],
            "begins": True,
        },
        "codellama_instruct": _INST,
        "codellama_completion": {"roles": {"user": "", "assistant": ""}, "seps": [""], "begins": True},
        "mistral_default": {
            **_INST,
            "system_template": "[INST] {system_message}",
            "add_role_after_system_message": False,
            "role_empty_sep": "",
        },
        "llama_default": _NAMED,
        "vicuna_v1.1": {**_NAMED, "seps": [" ", "</s>"]},
        "guanaco": _NAMED,
        "gorilla": {
            **_NAMED,
            "roles": {"user": "USER", "assistant": "ASSISTANT", "tool": "USER"},
            "role_templates": {"user": "<<question>> {user_message} <<function>> {function_string}"},
        },
        "gorilla-openfunctions-v2": {
            "roles": {"user": "### Instruction", "assistant": "### Response", "tool": "### Instruction"},
            "role_templates": _FUNCTIONS,
            "seps": ["\n", "<|EOT|>"],
            "role_content_sep": ": ",
            "stop_str": ["<|EOT|>"],
            "begins": True,
        },
        "conv_one_shot": {
            **_NAMED,
            "roles": {"user": "Human", "assistant": "Assistant"},
            "seps": ["\n###"],
            "stop_str": ["###"],
        },
        "wizardlm_7b": {
            **_NAMED,
            "system_message": "",
            "roles": {"user": "User", "assistant": "Response"},
            "seps": ["###"],
            "stop_str": ["###"],
        },
        "wizard_coder_or_math": {
            "system_template": "{system_message}\n\n### ",
            "system_message": "Below is an instruction that describes a task. Write a response that "
            "appropriately completes the request.",
            "roles": {"user": "Instruction", "assistant": "Response"},
            "seps": ["\n\n### "],
            "role_content_sep": ":\n",
            "stop_str": ["</s>"],
            "begins": True,
        },
        "tinyllama_v1_0": {
            **_PHI,
            "system_template": "<|system|>\n{system_message}</s>\n",
            "system_message": "You are a helpful chatbot.",
            "seps": ["</s>\n"],
            "stop_str": ["</s>"],
        },
        "deepseek": _DEEPSEEK,
        "deepseek_v2": _DEEPSEEK,
        "deepseek_v3": {**_DEEPSEEK_R1, "system_message": _HELPFUL},
        "deepseek_r1_qwen": _DEEPSEEK_R1,
        "deepseek_r1_llama": _DEEPSEEK_R1,
        "gemma_instruction": _GEMMA,
        "gemma3_instruction": _GEMMA,
        "phi-3": _PHI,
        "phi-4": {
            **_PHI,
            "system_template": "<|system|>{system_message}<|end|>",
            "seps": ["<|end|>"],
            "role_content_sep": "",
            "begins": False,
        },
    }
)
