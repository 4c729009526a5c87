#!/usr/bin/env bash
# llguidance 1.9.1, seen 2026-11-30.
#
# One would guess: \d and \w stand for the same characters wherever one engine reads a pattern.
# What happens: in a Lark grammar and in a bare regular expression they are Unicode's, so \d takes Arabic and Devanagari
# digits and \w takes letters of every script; in the `pattern` of a JSON schema they are ASCII's, as ECMA-262 has
# them. One pattern that is given as a regex and as a schema holds a model to two languages: what the first lets
# through, int() and a validator of the schema may each judge otherwise.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check llguidance==1.9.1
cat > look.py <<'PYTHON'
import json

from llguidance import LLMatcher, LLTokenizer

BYTES = LLTokenizer("byte")


def takes(grammar, text):
    matcher, data = LLMatcher(BYTES, grammar), list(text.encode())
    assert not matcher.is_error(), matcher.get_error()
    return matcher.validate_tokens(data) == len(data) and matcher.consume_tokens(data) and matcher.is_accepting()


def seen(pattern, character):
    schema = json.dumps({"type": "string", "pattern": f"^{pattern}$"})
    return (
        takes(LLMatcher.grammar_from_lark(f"start: /{pattern}/"), character),
        takes(LLMatcher.grammar_from_regex(pattern), character),
        takes(LLMatcher.grammar_from_json_schema(schema), json.dumps(character, ensure_ascii=False)),
    )


for pattern, character, expected in (
    (r"\d", "7", (True, True, True)),
    (r"\d", "\u0667", (True, True, False)),  # Arabic-Indic seven
    (r"\d", "\u096d", (True, True, False)),  # Devanagari seven
    (r"\w", "a", (True, True, True)),
    (r"\w", "\u00e9", (True, True, False)),  # e with an acute accent
    (r"\w", "\u0636", (True, True, False)),  # an Arabic letter
):
    found = seen(pattern, character)
    print(f"{pattern} takes {ascii(character)}: Lark {found[0]}, regex {found[1]}, schema {found[2]}")
    assert found == expected
PYTHON
venv/bin/python look.py
