"""Calls of tools, read from the text of an answer as it comes; see `prompts.answer_format` for the forms."""

from __future__ import annotations

import ast
import json
import re
import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TypeAlias

from edge_router.chat.events import Event, ToolCallArguments, ToolCallStart
from edge_router.chat.request import Tool
from edge_router.engines.local.forms.free_text import FreeText
from edge_router.parsing import strict_json
from edge_router.prompts.answer_format import ELEMENT_END, CallFormat
from edge_router.prompts.forms import is_text, parameters_of

_SPACE = " \t\r\n"
_OBJECT_KEYS = ("arguments", "parameters")
_PLAIN_KEYS = ("id", "type", "index")  # that some write beside, and that say nothing
_LONGEST = 1 << 18  # characters of a name, a key or a value that is read as a whole
_NAME = re.compile(r"[\w.:/-]")
_BARE_KEY = re.compile(r"([{,]\s*)([\w.$-]+)(\s*:)")
_CALL_ID = "[CALL_ID]"
_KEYWORD = re.compile(r"""\s*([^\s=(),'"\[\]{}]+)\s*=(?!=)\s*""")
_PIECE = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|.""", re.DOTALL)

_Reading: TypeAlias = Generator[None, None, None]
_ReadingText: TypeAlias = Generator[None, None, str]


class _NoCallError(Exception):
    """What is written is no call, or nothing more of one."""


def new_id() -> str:
    return f"call_{secrets.token_hex(12)}"


class CallReader:
    """Calls between one pair of marks: `push` text that begins with the first of them, until it is `over`.

    A call begins once its name is known to be a tool's and its arguments begin. `index` is the next call's,
    `rest` what was pushed and belongs to no call, `cut` whether the last call is not whole.
    """

    def __init__(
        self, form: CallFormat, tools: Sequence[Tool], index: int, new_id: Callable[[], str] = new_id
    ) -> None:
        self.index, self.over, self.cut, self.rest = index, False, False, ""
        self._form, self._new_id = form, new_id
        self._tools = {tool.name: tool for tool in tools}
        self._text, self._at, self._safe = "", 0, 0  # `_safe`: what lies before is of calls
        self._ended = False
        self._free: FreeText | None = None  # of the last call, where its tool is free
        self._events: list[Event] = []
        styles = {
            "json": self._json_calls,
            "elements": self._element_call,
            "keywords": self._keyword_calls,
            "bare": self._bare_call,
        }
        self._reading = self._block(styles[form.style])

    def push(self, text: str) -> list[Event]:
        self._text += text
        self._go_on()
        events, self._events = self._events, []
        return events

    def end(self) -> None:
        """No more text comes; the last `push` is of none."""
        self._ended = True
        self._go_on()

    def _go_on(self) -> None:
        if self.over:
            return
        try:
            next(self._reading)
        except (StopIteration, _NoCallError):
            # Half a parameter of a call that is told to be cut helps nobody.
            self.over, self.rest = True, "" if self._ended and self.cut else self._text[self._safe :]

    # ---- forms ---------------------------------------------------------------------------------------------

    def _block(self, calls: Callable[[], _Reading]) -> _Reading:
        for mark in (self._form.open, *self._form.also):
            if mark.strip() and self._text.startswith(mark.strip()[:1]):
                yield from self._literal(mark)
                break
        yield from calls()
        if self._form.close and (yield from self._next()):
            yield from self._literal(self._form.close)
            self._safe = self._at

    def _json_calls(self) -> _Reading:
        first = yield from self._next()
        if first not in ("[", "{"):
            yield from self._named_calls()
            return
        listed = first == "["
        self._at += listed
        while True:
            yield from self._object()
            self._safe = self._at
            following = yield from self._next()
            if following in (",", ";"):
                self._at += 1
            elif following != "{":
                break
        if listed and following == "]":
            self._at += 1
            self._safe = self._at

    def _object(self) -> _Reading:
        """{"name": ..., "arguments": ...}, in either order."""
        yield from self._literal("{")
        name, early, begun = "", "", False
        while True:
            key = json_text((yield from self._string()))
            yield from self._literal(":")
            value = yield from self._next()
            if key == "name" and not name:
                name = self._known(json_text((yield from self._string())))
            elif key in _OBJECT_KEYS and not begun and not early:
                if name and value == "{":
                    begun = True
                    self._start(name)
                    yield from self._value(told=True)
                    self._whole()
                else:
                    early = _as_object((yield from self._value()))
            elif key in _PLAIN_KEYS and value not in ("{", "["):
                yield from self._value()
            else:
                raise _NoCallError
            following = yield from self._next()
            self._at += 1
            if following == "}":
                break
            if following != ",":
                raise _NoCallError
        if not name:
            raise _NoCallError
        if not begun:
            self._complete(name, early or "{}")

    def _named_calls(self) -> _Reading:
        while True:
            yield from self._literal(self._form.head)
            name = self._known((yield from self._name()))
            following = yield from self._next()
            if following == _CALL_ID[0] and (yield from self._begins(_CALL_ID)):
                yield from self._literal(_CALL_ID)
                yield from self._name()
                following = yield from self._next()
            if following != "{":
                yield from self._literal(self._form.middle)
            if (yield from self._next()) != "{":
                raise _NoCallError
            self._start(name)
            yield from self._value(told=True)
            self._whole()
            if self._form.tail and (yield from self._next()):
                yield from self._literal(self._form.tail)
                self._safe = self._at
            following = yield from self._next()
            if not self._form.head or following != self._form.head[0]:
                return
            if not (yield from self._begins(self._form.head)):
                return

    def _element_call(self) -> _Reading:
        yield from self._literal("<function=")
        name = self._known((yield from self._until(">")))
        self._start(name)
        schema, said = parameters_of(self._tools[name]), False
        while (yield from self._begins("<parameter=")):
            yield from self._literal("<parameter=")
            key = (yield from self._until(">")).strip()
            yield from self._more()
            lines = self._text.startswith("\n", self._at)  # then a text may hold the end's name
            value = yield from self._until(ELEMENT_END if lines else ELEMENT_END.strip())
            value = value.removeprefix("\n").removesuffix("" if lines else "\n")
            written = f"{_json(key)}: {_typed(value, schema, key)}"
            self._say(f", {written}" if said else f"{{{written}")
            said = True
        yield from self._literal("</function>")
        self._say("}" if said else "{}")
        self._whole()

    def _keyword_calls(self) -> _Reading:
        listed = (yield from self._next()) == "["
        self._at += listed
        while True:
            yield from self._next()
            name = self._known((yield from self._name()))
            yield from self._literal("(")
            self._complete(name, _keywords((yield from self._enclosed("()", ("'", '"'))), self._tools[name]))
            following = yield from self._next()
            if following != ",":
                break
            self._at += 1
        if listed and following == "]":
            self._at += 1
            self._safe = self._at

    def _bare_call(self) -> _Reading:
        yield from self._literal("call:")
        name = self._known((yield from self._name()))
        yield from self._literal("{")
        quote = self._form.quote
        self._complete(name, _bare((yield from self._enclosed("{}", (quote,))), quote))

    # ---- what is found -------------------------------------------------------------------------------------

    def _known(self, name: str) -> str:
        if name not in self._tools:
            raise _NoCallError
        return name

    def _start(self, name: str) -> None:
        free = self._tools[name].free
        self._events.append(ToolCallStart(self.index, self._new_id(), name, free))
        self._free = FreeText() if free else None
        self.index += 1
        self.cut, self._safe = True, self._at

    def _say(self, text: str) -> None:
        if self._free is not None:
            text = self._free.push(text)
        if text:
            self._events.append(ToolCallArguments(self.index - 1, text))
        self._safe = self._at

    def _whole(self) -> None:
        if self._free is not None and (rest := self._free.rest()):
            self._events.append(ToolCallArguments(self.index - 1, rest))
        self.cut, self._safe = False, self._at

    def _complete(self, name: str, arguments: str) -> None:
        self._start(name)
        self._say(arguments)
        self._whole()

    # ---- reading -------------------------------------------------------------------------------------------

    def _more(self) -> _Reading:
        """There is a character at hand, or no more to come."""
        while self._at >= len(self._text) and not self._ended:
            yield

    def _next(self) -> _ReadingText:
        """The next character that is no white space, not taken; "" at the end."""
        while True:
            yield from self._more()
            found = self._text[self._at : self._at + 1]
            if not found or found not in _SPACE:
                return found
            self._at += 1

    def _begins(self, text: str) -> Generator[None, None, bool]:
        """Whether `text` comes next, behind white space; it is not taken."""
        yield from self._next()
        return (yield from self._stands(text))

    def _stands(self, text: str) -> Generator[None, None, bool]:
        """Whether `text` comes next; it is not taken."""
        while len(self._text) - self._at < len(text) and not self._ended:
            if not text.startswith(self._text[self._at :]):
                break
            yield
        return self._text.startswith(text, self._at)

    def _literal(self, text: str) -> _Reading:
        """Takes `text`, with any white space where it has some and at both of its ends."""
        for word in text.split():
            yield from self._next()
            for expected in word:
                yield from self._more()
                found = self._text[self._at : self._at + 1]
                if not found and self._safe:  # a mark that the end cut short, behind a call
                    self._safe = self._at
                if found != expected:
                    raise _NoCallError
                self._at += 1

    def _name(self) -> _ReadingText:
        begin = self._at
        while True:
            yield from self._more()
            if not _NAME.fullmatch(self._text[self._at : self._at + 1]) or self._at - begin > _LONGEST:
                return self._text[begin : self._at]
            self._at += 1

    def _until(self, mark: str) -> _ReadingText:
        """What stands before `mark`, which is taken, too."""
        begin = searched = self._at
        while (at := self._text.find(mark, max(begin, searched - len(mark)))) < 0:
            searched = len(self._text)
            if self._ended or searched - begin > _LONGEST:
                raise _NoCallError
            yield
        self._at = at + len(mark)
        return self._text[begin:at]

    def _string(self) -> _ReadingText:
        """A text in JSON's spelling."""
        if (yield from self._next()) != '"':
            raise _NoCallError
        return (yield from self._value())

    def _value(self, *, told: bool = False) -> _ReadingText:
        """A value in JSON's spelling; said as arguments while it comes, where it is `told`."""
        begin = said = self._at
        depth, quoted, escaped = 0, False, False
        while True:
            if self._at >= len(self._text):
                if told:
                    self._say(self._text[said : self._at])
                    said = self._at
                if self._ended or (not told and self._at - begin > _LONGEST):
                    raise _NoCallError
                yield
                continue
            char = self._text[self._at]
            if quoted:
                quoted, escaped = escaped or char != '"', char == "\\" and not escaped
            elif not depth and begin < self._at and char in ",}]" + _SPACE:
                break
            else:
                quoted = char == '"'
                depth += (char in "{[") - (char in "}]")
            self._at += 1
            if not quoted and not depth and char in '"}]':
                break
        if told:
            self._say(self._text[said : self._at])
        return self._text[begin : self._at]

    def _enclosed(self, pair: str, quotes: Sequence[str]) -> _ReadingText:
        """What stands before the bracket that closes one of `pair`, which is taken, too."""
        begin, depth, quote = self._at, 1, ""
        while True:
            yield from self._more()
            char = self._text[self._at : self._at + 1]
            if not char or self._at - begin > _LONGEST:
                raise _NoCallError
            if quote and char == "\\" and len(quote) == 1:  # what it escapes ends nothing
                self._at += 1
                yield from self._more()
                self._at += 1
                continue
            mark = ""
            for each in (quote,) if quote else quotes:
                if char == each[0] and (yield from self._stands(each)):
                    mark = each
            self._at += len(mark) or 1
            if mark:
                quote = "" if quote else mark
            elif not quote:
                depth += (char == pair[0]) - (char == pair[1])
                if not depth:
                    return self._text[begin : self._at - 1]


# ---- arguments ---------------------------------------------------------------------------------------------


def json_text(spelled: str) -> str:
    try:
        found = strict_json.parse(spelled)
    except strict_json.NotJson:
        raise _NoCallError from None
    if not isinstance(found, str):
        raise _NoCallError
    return found


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _as_object(spelled: str) -> str:
    """Arguments as they are, also where they are spelled as a text or as null."""
    try:
        value = strict_json.parse(spelled)
        inner = strict_json.parse(value) if isinstance(value, str) and value.strip() else value
    except strict_json.NotJson:
        raise _NoCallError from None
    if inner in (None, "", []):
        return "{}"
    if not isinstance(inner, Mapping):
        raise _NoCallError
    return value if isinstance(value, str) else spelled


def _typed(value: str, schema: Mapping[str, object], key: str) -> str:
    """A parameter's JSON, by what its schema says that it is."""
    properties = schema.get("properties")
    described = properties.get(key) if isinstance(properties, Mapping) else None
    if is_text(described):
        return _json(value)
    try:
        strict_json.parse(value)
    except strict_json.NotJson:
        return _json(value)
    return value.strip()


def _keywords(text: str, tool: Tool) -> str:
    """Of what stands between the brackets of a call in Python; places are told by the schema's order."""
    properties = parameters_of(tool).get("properties")
    places = iter(list(properties) if isinstance(properties, Mapping) else [])
    found: dict[str, str] = {}
    keyed = False
    for given in _apart(text):
        key = _KEYWORD.match(given)
        name = key[1] if key else next(places, None)
        if name is None or (keyed and not key):
            raise _NoCallError
        keyed = keyed or key is not None
        found[name] = _python(given[key.end() :] if key else given)
    return f"{{{', '.join(f'{_json(name)}: {value}' for name, value in found.items())}}}"


def _apart(text: str) -> list[str]:
    """What stands between commas that are within no brackets and no texts."""
    pieces, depth = [""], 0
    for piece in _PIECE.findall(text):
        depth += (piece in "([{") - (piece in ")]}")
        if piece == "," and not depth:
            pieces.append("")
        else:
            pieces[-1] += piece
    return [piece for piece in pieces if piece.strip()]


def _python(spelled: str) -> str:
    """A value as Python or JSON spells it, in JSON."""
    try:
        strict_json.parse(spelled)
        return spelled.strip()
    except strict_json.NotJson:
        pass
    try:
        return json.dumps(ast.literal_eval(spelled.strip()), ensure_ascii=False, allow_nan=False)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise _NoCallError from None


def _bare(text: str, quote: str) -> str:
    """Of {key:value} without its brackets, where texts stand between two of `quote`."""
    pieces = f"{{{text}}}".split(quote)
    if len(pieces) % 2 == 0:
        raise _NoCallError
    spelled = "".join(
        _json(piece) if number % 2 else _BARE_KEY.sub(r'\1"\2"\3', piece)
        for number, piece in enumerate(pieces)
    )
    return _as_object(spelled)
