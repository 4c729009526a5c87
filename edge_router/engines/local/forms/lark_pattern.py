"""A grammar in Lark's form as one regular expression: a free tool's text is held to it within JSON's quotes.

llguidance has no grammar within a text of JSON, where a quote is written as two characters, but it has
patterns there. So rules are put in the place of their names. What holds itself has no such expression.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from edge_router.errors import UnsupportedRequest
from edge_router.records import dataclass

LONGEST = 64 * 1024  # characters
DEEPEST = 64  # rules within rules
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\f]+|//[^\n]*)
  | (?P<line>(?:\r?\n[ \t\f]*)+)
  | (?P<text>"(?:\\.|[^"\\\n])*"i?)
  | (?P<pattern>/(?!/)(?:\\.|[^/\\\n])+/[imslux]*)
  | (?P<name>[!?]*_?[A-Za-z]\w*)
  | (?P<priority>\.-?\d+)
  | (?P<sign>->|\.\.|%[a-z]+|[:|()\[\]*+?~{},.])
  | (?P<number>\d+)
    """,
    re.VERBOSE,
)
_COMMON: Mapping[str, str] = {  # Lark's own
    "DIGIT": "[0-9]",
    "HEXDIGIT": "[0-9a-fA-F]",
    "INT": "[0-9]+",
    "SIGNED_INT": "[+-]?[0-9]+",
    "DECIMAL": r"(?:[0-9]+\.[0-9]*|\.[0-9]+)",
    "FLOAT": r"(?:[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)",
    "NUMBER": r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?",
    "SIGNED_NUMBER": r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?",
    "ESCAPED_STRING": r'"(?:[^"\\\n]|\\[^\n])*"',
    "LCASE_LETTER": "[a-z]",
    "UCASE_LETTER": "[A-Z]",
    "LETTER": "[A-Za-z]",
    "WORD": "[A-Za-z]+",
    "CNAME": "[A-Za-z_][A-Za-z0-9_]*",
    "WS_INLINE": r"[ \t]+",
    "WS": r"[ \t\f\r\n]+",
    "CR": r"\r",
    "LF": r"\n",
    "NEWLINE": r"(?:\r?\n)+",
}
_MEANING = re.compile(r"[\\.+*?()|\[\]{}^$#&~-]")


def lark_pattern(source: str) -> str:
    """Raises `UnsupportedRequest`."""
    return _Grammar(source).pattern("start")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


class _Grammar:
    def __init__(self, source: str) -> None:
        self._bodies: dict[str, list[_Token]] = {}  # of rules and terminals, not yet read
        self._made: dict[str, str] = {}
        self._ignored: list[str] = []
        self._open: list[str] = []  # names that are being written out
        for statement in _statements(source):
            self._take(statement)

    def pattern(self, name: str) -> str:
        """Of the rule or terminal of that name."""
        if name not in self._made:
            if name not in self._bodies:
                raise _unable(f"it has no rule {name[:60]}")
            if name in self._open:
                raise _unable(f"its rule {name[:60]} holds itself")
            if len(self._open) >= DEEPEST:
                raise _unable(f"its rules stand within each other more than {DEEPEST} deep")
            self._open.append(name)
            found = _Reader(self, self._bodies[name], between=self._between(name)).whole()
            self._open.pop()
            self._made[name] = found
        return self._made[name]

    def _between(self, name: str) -> str:
        """What may stand behind any piece of a rule."""
        if not self._ignored or name.lstrip("_").isupper():
            return ""
        return f"(?:{'|'.join(map(self.pattern, self._ignored))})*"

    def _take(self, tokens: list[_Token]) -> None:
        first, rest = tokens[0], tokens[1:]
        if first.kind == "name":
            name = first.text.lstrip("!?")
            rest = rest[1:] if rest and rest[0].kind == "priority" else rest
            if not rest or rest[0].text != ":":
                raise _unable(f"its rule {name[:60]} has a form that is not known here")
            self._bodies[name] = rest[1:]
        elif first.text == "%ignore":
            self._bodies[name := f"_IGNORED{len(self._ignored)}"] = rest
            self._ignored.append(name)
        elif first.text == "%import":
            self._import([token.text for token in rest])
        else:
            raise _unable(f"{first.text[:40]!r} is not known here")

    def _import(self, words: list[str]) -> None:
        match words:
            case ["common", ".", name]:
                names = {name: name}
            case ["common", ".", name, "->", alias]:
                names = {alias: name}
            case ["common", "(", *listed, ")"]:
                names = {name: name for name in listed if name != ","}
            case _:
                names = {"": " ".join(words)}
        for alias, name in names.items():
            if name not in _COMMON:
                raise _unable(f"{name[:60]} cannot be imported")
            self._made[alias] = f"(?:{_COMMON[name]})"


class _Reader:
    """One body: alternatives of sequences of pieces."""

    def __init__(self, grammar: _Grammar, tokens: list[_Token], between: str) -> None:
        self._grammar, self._tokens, self._at, self._between = grammar, tokens, 0, between
        self._length = 0

    def whole(self) -> str:
        found = self._alternatives()
        if self._next() is not None:
            raise _unable(f"{self._tokens[self._at].text[:40]!r} stands where it can't")
        return found

    def _alternatives(self) -> str:
        found = [self._sequence()]
        while self._takes("|"):
            found.append(self._sequence())
        return found[0] if len(found) == 1 else f"(?:{'|'.join(found)})"

    def _sequence(self) -> str:
        pieces = []
        while (token := self._next()) is not None and token.text not in ("|", ")", "]", "->"):
            pieces.append(self._counted(self._piece()))
            self._length += len(pieces[-1])
            if self._length > LONGEST:
                raise _unable(f"written out it has more than {LONGEST} characters")
        if self._takes("->"):
            self._at += 1  # an alias says nothing of the text
        return "".join(pieces)

    def _piece(self) -> str:
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "text":
            if self._takes(".."):
                last = self._next()
                if last is None or last.kind != "text":
                    raise _unable("'..' stands where it can't")
                self._at += 1
                return f"[{_quoted(_said(token))}-{_quoted(_said(last))}]{self._between}"
            said = _quoted(_said(token))
            return f"(?{'i' if token.text.endswith('i') else ''}:{said}){self._between}"
        if token.kind == "pattern":
            body, _, flags = token.text[1:].rpartition("/")
            body, flags = body.replace(r"\/", "/"), "".join(flag for flag in flags if flag in "imsx")
            return f"(?{flags}:{body}){self._between}"
        if token.kind == "name":
            inner = self._grammar.pattern(token.text.lstrip("!?"))
            return f"(?:{inner}){self._between if token.text.lstrip('_').isupper() else ''}"
        if token.text in ("(", "["):
            inner = self._alternatives()
            if not self._takes(")" if token.text == "(" else "]"):
                raise _unable("a bracket is not closed")
            return f"(?:{inner}){'?' if token.text == '[' else ''}"
        raise _unable(f"{token.text[:40]!r} is not known here")

    def _counted(self, piece: str) -> str:
        for sign in "*+?":
            if self._takes(sign):
                return f"(?:{piece}){sign}"
        if self._takes("~"):
            least = most = self._number()
            if self._takes(".."):
                most = self._number()
            return f"(?:{piece}){{{least},{most}}}"
        if self._takes("{"):  # llguidance's
            least, most = self._number(), ""
            if self._takes(","):
                token = self._next()
                most = self._number() if token is not None and token.kind == "number" else ""
            else:
                most = least
            if not self._takes("}"):
                raise _unable("'{' is not closed")
            return f"(?:{piece}){{{least},{most}}}"
        return piece

    def _number(self) -> str:
        token = self._next()
        if token is None or token.kind != "number":
            raise _unable("a count is no number")
        self._at += 1
        return token.text

    def _next(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _takes(self, sign: str) -> bool:
        token = self._next()
        found = token is not None and token.kind in ("sign", "priority") and token.text == sign
        self._at += found
        return found


def _statements(source: str) -> Iterator[list[_Token]]:
    """One in each line, with the lines behind it that go on with it."""
    tokens = [token for token in _tokens(source) if token.kind != "space"]
    statement: list[_Token] = []
    for number, token in enumerate(tokens):
        if token.kind != "line":
            statement.append(token)
            continue
        following = tokens[number + 1 : number + 3]
        begins = not following or following[0].text.startswith("%")
        begins = (
            begins or (len(following) > 1 and following[1].text == ":") or following[-1].kind == "priority"
        )
        if begins and statement:
            yield statement
            statement = []
    if statement:
        yield statement


def _tokens(source: str) -> Iterator[_Token]:
    at = 0
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise _unable(f"{source[at : at + 20]!r} is not known here")
        assert found.lastgroup is not None
        yield _Token(found.lastgroup, found[0])
        at = found.end()


def _said(token: _Token) -> str:
    try:
        found = ast.literal_eval(token.text.removesuffix("i"))
    except (SyntaxError, ValueError) as error:
        raise _unable(f"{token.text[:40]} is no text") from error
    return str(found)


def _quoted(text: str) -> str:
    return _MEANING.sub(r"\\\g<0>", text)


def _unable(why: str) -> UnsupportedRequest:
    return UnsupportedRequest("tools", f"the weak model cannot be held to this grammar: {why}")
