"""Short chat templates, each with the ways of one family."""

_TURNS = "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"

FAMILIES = {
    "chatml": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n",
    "headers": "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "system within the first": "{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}"
    + _TURNS
    + "<start_of_turn>{{ 'model' if m.role == 'assistant' else 'user' }}\n{% if loop.first %}{{ first }}{% endif %}{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}<start_of_turn>model\n",
    "no system": "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + _TURNS
    + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
    "system left out": "{% for m in messages %}{% if m.role != 'system' %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endif %}{% endfor %}<|assistant|>\n",
    "headings": "{% for m in messages %}{% if m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n{% elif m.role == 'assistant' %}### Response:\n"
    "{{ m.content }}\n\n{% else %}{{ m.content }}\n\n{% endif %}{% endfor %}### Response:\n",
    "calls": "{% for m in messages %}<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}\n{% if m.role == 'tool' %}<tool_response>{{ m.content }}"
    '</tool_response>{% else %}{{ m.content }}{% endif %}{% for c in m.tool_calls or [] %}<tool_call>{"name": "{{ c.function.name }}", '
    '"arguments": {{ c.function.arguments | tojson }}}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n',
    "one call, nine letters": "{% for m in messages %}{% if m.tool_calls is defined %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one call') }}"
    "{% endif %}{% if m.tool_calls[0].id | length != 9 %}{{ raise_exception('nine') }}{% endif %}[TOOL_CALLS]{{ m.tool_calls[0].function | tojson }}</s>"
    "{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}{{ m.tool_call_id }}[/TOOL_RESULTS]{% else %}[{{ m.role }}]{{ m.content }}</s>{% endif %}{% endfor %}",
    "the first call alone": "{% for m in messages %}{% if m.tool_calls is defined %}<|start|>assistant to=functions.{{ m.tool_calls[0].function.name }}<|message|>"
    "{{ m.tool_calls[0].function.arguments | tojson }}<|call|>{% elif m.role == 'tool' %}<|start|>tool<|message|>{{ m.content | tojson }}<|end|>{% else %}"
    "<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}<|start|>assistant",
    "calls without content": "{% for m in messages %}{% if m.role == 'assistant' and m.content is none %}<｜Assistant｜>{% for c in m.tool_calls %}"
    "<｜tool▁call▁begin｜>{{ c.function.name + '\n' + c.function.arguments }}<｜tool▁call▁end｜>{% endfor %}<｜end▁of▁sentence｜>"
    "{% elif m.role == 'assistant' %}<｜Assistant｜>{{ m.content }}<｜end▁of▁sentence｜>{% elif m.role == 'tool' %}<｜tool▁output｜>{{ m.content }}"
    "{% else %}<｜User｜>{{ m.content }}{% endif %}{% endfor %}<｜Assistant｜>",
    "content in parts": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n",
}
