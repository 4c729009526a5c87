"""Short chat templates that tell of tools, each with the ways of one family."""

_SYSTEM = "{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{% endif %}"
_CHATML = (
    _SYSTEM
    + "{% for m in messages %}<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}\n{% if m.role == 'tool' %}"
    "<tool_response>{{ m.content }}</tool_response>{% else %}{{ m.content }}{% for c in m.tool_calls or [] %}CALL{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
_NAMED = '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
_KEYS = "{% for k, v in c.function.arguments.items() %}KEY{% endfor %}"
_DEEPSEEK = (
    "{{ tools | tojson if tools else '' }}{% for m in messages %}{% if m.role == 'assistant' and m.content is none %}<｜Assistant｜>"
    "<｜tool▁calls▁begin｜>{% for c in m.tool_calls %}CALL{% endfor %}<｜tool▁calls▁end｜><｜end▁of▁sentence｜>"
    "{% elif m.role == 'tool' %}<｜tool▁output｜>{{ m.content }}{% else %}<｜{{ m.role }}｜>{{ m.content }}{% endif %}{% endfor %}<｜Assistant｜>"
)
_MISTRAL = (
    "{% set users = messages | selectattr('role', 'equalto', 'user') | list %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% if tools and m == users[-1] %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST]{{ m.content }}[/INST]"
    "{% elif m.role == 'system' %}{{ raise_exception('no system') }}{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]"
    "{% elif m.tool_calls %}CALL</s>{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
_LISTED = '[{% for c in m.tool_calls %}{% set f = c.function | tojson %}{{ f[:-1] }}, "id": "{{ c.id }}"}{{ \', \' if not loop.last }}{% endfor %}]'

FAMILIES = {
    "hermes": _CHATML.replace("CALL", f"<tool_call>\n{_NAMED}\n</tool_call>"),
    "qwen coder": _CHATML.replace(
        "CALL",
        "<tool_call>\n<function={{ c.function.name }}>\n"
        + _KEYS.replace("KEY", "<parameter={{ k }}>\n{{ v }}\n</parameter>\n")
        + "</function>\n</tool_call>",
    ),
    "function gemma": _CHATML.replace(
        "CALL",
        "<start_function_call>call:{{ c.function.name }}{{ '{' }}"
        + _KEYS.replace("KEY", "{{ k }}:<escape>{{ v }}<escape>")
        + "}<end_function_call>",
    ),
    "gemma 4": _CHATML.replace(
        "CALL",
        "<|tool_call>call:{{ c.function.name }}{{ '{' }}"
        + _KEYS.replace("KEY", '{{ k }}:<|"|>{{ v }}<|"|>')
        + "}<tool_call|>",
    ),
    "lfm": _CHATML.replace(
        "CALL",
        "<|tool_call_start|>[{{ c.function.name }}("
        + _KEYS.replace("KEY", '{{ k }}="{{ v }}"')
        + ")]<|tool_call_end|>",
    ),
    "mistral": _MISTRAL.replace("CALL", "[TOOL_CALLS]" + _LISTED),
    "mistral, name first": _MISTRAL.replace(
        "CALL",
        "{% for c in m.tool_calls %}[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}{% endfor %}",
    ),
    "deepseek": _DEEPSEEK.replace(
        "CALL",
        "<｜tool▁call▁begin｜>{{ c.type }}<｜tool▁sep｜>{{ c.function.name + '\n```json\n' + c.function.arguments }}\n```<｜tool▁call▁end｜>",
    ),
    "deepseek, name first": _DEEPSEEK.replace(
        "CALL",
        "<｜tool▁call▁begin｜>{{ c.function.name + '<｜tool▁sep｜>' + c.function.arguments }}<｜tool▁call▁end｜>",
    ),
    "llama": "{% for m in messages %}<|start_header_id|>{{ 'ipython' if m.role == 'tool' else m.role }}<|end_header_id|>\n\n"
    "{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception('one at once') }}{% endif %}"
    '{"name": "{{ m.tool_calls[0].function.name }}", "parameters": {{ m.tool_calls[0].function.arguments | tojson }}}'
    "{% else %}{% if loop.first and tools is not none and tools is defined %}{% for t in tools %}{{ t | tojson(indent=4) }}\n\n{% endfor %}"
    "{% endif %}{{ m.content }}{% endif %}<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>\n\n",
}
# Tools stand in the system's message, and calls are written by the model alone.
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if 'tools' in m and m['tools'] %}<|tool|>{{ m['tools'] }}<|/tool|>"
    "{% endif %}<|end|>{% endfor %}<|assistant|>"
)
# In marks that no family has.
NOBODY = _CHATML.replace(
    "{% for c in m.tool_calls or [] %}CALL{% endfor %}",
    "{% if m.tool_calls %}<|act_begin|>" + _LISTED + "<|act_end|>{% endif %}",
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content and loop.last %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
    "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)
