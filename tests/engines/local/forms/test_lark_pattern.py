"""Grammars in Lark's form as one regular expression."""

from __future__ import annotations

import re

import pytest

from edge_router.engines.local.forms.lark_pattern import lark_pattern
from edge_router.errors import UnsupportedRequest

PATCH = """
start: begin_patch hunk+ end_patch
begin_patch: "*** Begin Patch" LF
end_patch: "*** End Patch" LF?

hunk: add_hunk | delete_hunk  // and no other
add_hunk: "*** Add File: " filename LF add_line+
delete_hunk: "*** Delete File: " filename LF

filename: /(.+)/
add_line: "+" /(.*)/ LF -> line

%import common.LF
"""
ROWS = (
    (PATCH, "*** Begin Patch\n*** Add File: a\n+x = \"y\"\n+\n*** End Patch", True),
    (PATCH, "*** Begin Patch\n*** Delete File: a\n*** End Patch\n", True),
    (PATCH, "*** Begin Patch\n*** Add File: a\nx\n*** End Patch", False),
    ('start: "a".."c"~2..3 ["x"] B{2}\nB: "\\"" | /[\\/.]/i\n  | "\\n"', "abcx\"/", True),
    ('start: "a".."c"~2..3 ["x"] B{2}\nB: "\\"" | /[\\/.]/i\n  | "\\n"', "ax\"/", False),
    ('start: SELECT name ("," name)*\nSELECT.2: "select"i\n?name: WORD\n%import common (WORD, WS)\n%ignore WS',
     "SeLeCT a,\n b", True),
    ('start: (\n  "a"\n  | "b*"\n)+', "ab*a", True),
    ('start: (\n  "a"\n  | "b*"\n)+', "abb", False),
    ("start: N \"-\" N\n%import common.INT -> N", "12-3", True),
    ("!start: _a\n_a: \"x\"+ // all", "xx", True),
)  # fmt: skip
REFUSED = (
    ('start: "1" | "(" start ")"', "start holds itself"),
    ("start: missing", "no rule missing"),
    ('a: "x"', "no rule start"),
    ('start: "a" ..', "stands where"),
    ('start: ("a"', "not closed"),
    ('start: "a"]', "stands where"),
    ('start: "a" ~ x', "no number"),
    ("start: 'a'", "not known"),
    ('start{x}: "a"', "form that is not known"),
    ('%declare A\nstart: "a"', "not known"),
    ("%import python.NAME\nstart: NAME", "cannot be imported"),
    ("\n".join(f"r{n}: r{n + 1} r{n + 1}" for n in range(30)) + '\nr30: "a"\nstart: r0', "65536 characters"),
    ("\n".join(f"r{n}: r{n + 1}" for n in range(300)) + '\nr300: "a"\nstart: r0', "64 deep"),
)


def test_it_fits_what_the_grammar_describes() -> None:
    for grammar, text, fits in ROWS:
        assert bool(re.fullmatch(lark_pattern(grammar), text)) is fits, (grammar, text)


def test_what_has_no_expression_is_refused_by_its_reason() -> None:
    for grammar, said in REFUSED:
        with pytest.raises(UnsupportedRequest, match=said):
            lark_pattern(grammar)
