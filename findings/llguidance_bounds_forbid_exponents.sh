#!/usr/bin/env bash
# llguidance 1.9.1, seen 2026-11-30.
#
# One would guess: a bound on a number of a JSON schema makes fewer numbers possible, and spells none differently:
# 2.5e3, which a schema {"type": "number"} takes, is taken by one with "maximum": 100000, too.
# What happens: with any bound, or with multipleOf, a number has no exponent any more, so a model that is about to write
# 2.5e3 is held to another text, and one that means 1e-12 has to write twelve zeros. A minimum alone leaves the
# number of digits open, so that a model may go on with digits for ever. And a maximum of 1e19 is refused when
# the grammar is compiled, where 1e18 is not: bounds such as those of a 64-bit time stamp have to be left out.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check llguidance==1.9.1
cat > look.py <<'PYTHON'
import json

from llguidance import LLMatcher, LLTokenizer

BYTES = LLTokenizer("byte")


def takes(schema, text):
    """Whether `text` can be the beginning of an answer that the schema allows; the error of one that is refused."""
    matcher = LLMatcher(BYTES, LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    if matcher.is_error():
        return matcher.get_error().splitlines()[0]
    return matcher.validate_tokens(BYTES.tokenize_str(text)) == len(text)


SPELLED = {"2.5e3": "an exponent", "2500": "the same without", "1" * 400: "400 digits"}
for bounds in {}, {"maximum": 100000}, {"minimum": 0}, {"multipleOf": 0.5}, {"minimum": 0, "maximum": 100000}:
    schema = {"type": "number", **bounds}
    found = {name: takes(schema, text) for text, name in SPELLED.items()}
    print(f"{bounds or 'no bound'}: {found}")
    assert found["the same without"] is True
    assert found["an exponent"] is (not bounds), found
    assert found["400 digits"] is ("maximum" not in bounds), found
for maximum in 1e18, 1e19:
    got = takes({"type": "number", "minimum": 0, "maximum": maximum}, "5")
    print(f"maximum {maximum:g}: {got}")
    assert (got is True) == (maximum < 1e19), got
PYTHON
venv/bin/python look.py
