"""Forms that answers are held to, made by llguidance: JSON of a schema, grammars, calls of tools.

Whoever asks for a form waits for it in a thread of its own, for `_SECONDS` at most: the thread that serves
the answers under way compiles nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from edge_router.chat.request import GrammarOutput, Tool
from edge_router.device.process import give_back
from edge_router.engines.local.forms.call_arguments import CallArguments
from edge_router.engines.local.forms.call_grammar import HeldTool, call_grammar, endings
from edge_router.engines.local.forms.closing import Closing
from edge_router.engines.local.forms.form_mask import Form, first_words
from edge_router.engines.local.forms.grammar_rules import Rules
from edge_router.engines.local.forms.json_schema import followable
from edge_router.engines.local.forms.lark_pattern import lark_pattern
from edge_router.engines.local.forms.vocabulary import GrammarVocabulary, byte_tokenizer
from edge_router.errors import Cancelled, InvalidRequest, UnsupportedRequest
from edge_router.prompts.answer_format import CallFormat
from edge_router.prompts.forms import free_parameters, parameters_of
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.types import Cancel

T = TypeVar("T")
_Compiled: TypeAlias = tuple[str, Closing, bytes]  # a grammar, what follows it by bytes, a way to its end

_FIELD = "schema"  # a request has its own name for where it stands
_POLL_S = 0.05  # how often who waits looks at its cancel
_SECONDS = 10.0  # to make a form; a usual one takes milliseconds
LONGEST = 64 * 1024  # characters of a schema or a grammar
DEEPEST = 64  # brackets within brackets of a grammar
_TOKEN_BYTES = 140  # of memory, for each of the vocabulary; measured with 151,669 and 262,145
_KEPT = 8  # forms
_THREADS = 2  # that look for masks; one mask takes a fraction of a token's time
_REFUSED = "cannot be followed by the weak model: "
# Each character of a text has one spelling, so that llguidance, which compares names as they are spelled,
# compares them rightly. And without limits to white space a small model may write nothing else.
_SPELLING: Any = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "json_allowed_escapes": '"\\bfnrt',
}
_LOOSE_SPELLING: Any = {"whitespace_pattern": r"[ \t\r\n]{0,32}"}
_ANY_OBJECT: Mapping[str, object] = {"type": "object"}


def tokenizer_bytes(numbers: Mapping[str, object]) -> int:
    """Memory that `Grammars` takes beside a model, by its config.json's keys."""
    size = numbers.get("vocab_size")
    return size * _TOKEN_BYTES if isinstance(size, int) else 0


class Grammars:
    """Makes forms for one model. Safe to use from many threads.

    Its tokenizer takes half a second of work for 150,000 tokens, so that `prepare` begins it in a thread of
    its own; llguidance has no way to keep one on disk. `size` tokens have logits, `ends` end an answer.

    What makes a form raises `UnsupportedRequest` for what can't be followed, `InvalidRequest` for what is
    none, and `Cancelled`.
    """

    def __init__(self, tokenizer: TextTokenizer, ends: Collection[int], size: int) -> None:
        self._words = GrammarVocabulary(tokenizer, ends, size)
        self._prepared: Future[None] | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._kept: dict[Hashable, Form] = {}  # the least recently used first
        self._lock = threading.Lock()

    def prepare(self) -> Future[None]:
        """Make the tokenizer, once."""
        with self._lock:
            if self._prepared is None:
                self._prepared = _in_a_thread(self._make_words)
            return self._prepared

    def json(self, schema: object, cancel: Cancel, *, loose: bool = False) -> Form:
        """JSON that fits `schema`; `loose` takes it however somebody else may have begun to write it."""
        stated = json.dumps(schema, default=str)

        def compiled() -> _Compiled:
            _check_length(stated, "the schema")
            return _compiled(_json_grammar(followable(schema, _pattern_fault), loose=loose))

        return self._form(("json", loose, stated), compiled, cancel)

    def grammar(self, output: GrammarOutput, cancel: Cancel) -> Form:
        """A text that a grammar, in llguidance's dialect of Lark's, or a regular expression describes."""

        def compiled() -> _Compiled:
            return _compiled(_text_grammar(output), numbers=False)

        return self._form((output.syntax, output.source), compiled, cancel)

    def calls(
        self,
        form: CallFormat,
        tools: Sequence[Tool],
        cancel: Cancel,
        *,
        parallel: bool,
        otherwise: object = None,
    ) -> Form:
        """Calls of `tools`, one or more, as the model writes them.

        Or JSON of the schema `otherwise`, where there is one. Arguments fit their tool's schema, the text of
        a free tool its grammar. Of tools that are not strict they are any JSON object where the schema can't
        be followed, or where all schemas together are too large.
        """
        answer = None if otherwise is None else json.dumps(otherwise, default=str)

        def compiled() -> _Compiled:
            fault = None
            schema = None if answer is None else followable(otherwise, _pattern_fault)
            for held in _held_tools(form, tools):
                try:
                    source = call_grammar(form, held, _SPELLING, parallel=parallel, otherwise=schema)
                    return _compiled(_lark(source), endings(form))
                except UnsupportedRequest as error:
                    fault = error
            raise UnsupportedRequest("tools", fault.reason if fault is not None else "there are none")

        stated = (
            (tool.name, tool.strict, tool.form, json.dumps(parameters_of(tool), default=str))
            for tool in tools
        )
        return self._form((form, parallel, answer, *stated), compiled, cancel)

    def close(self) -> None:
        with self._lock:
            self._kept.clear()
            if self._threads is not None:
                self._threads.shutdown(wait=False, cancel_futures=True)
                self._threads = None

    def _form(self, key: Hashable, compiled: Callable[[], _Compiled], cancel: Cancel) -> Form:
        """Kept for whoever asks for the same next: agents send the same tools with each request."""
        from llguidance import LLMatcher

        with self._lock:
            if (kept := self._kept.pop(key, None)) is not None:
                self._kept[key] = kept  # as the last that was used
                return kept
        prepared = self.prepare()
        grammar, closing, way = _waited_for(_in_a_thread(compiled), cancel, _SECONDS)
        _waited_for(prepared, cancel)
        with _refusing("the model's tokenizer"):
            matcher = LLMatcher(self._words.known, grammar, log_level=0)
        form = Form(matcher, closing, way, self._words, self._executor())
        with self._lock:
            self._kept[key] = form
            if len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
        return form

    def _make_words(self) -> None:
        self._words.prepare()
        give_back()  # it has taken ten times what it keeps

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_THREADS, "edge_router mask")
            return self._threads


def _held_tools(form: CallFormat, tools: Sequence[Tool]) -> Iterator[list[HeldTool]]:
    """What calls of them may be held to, the best first."""
    best = [_followed(form, tool) for tool in tools]
    yield best
    for enough in (_alone, _never):
        yield [
            held if _is_strict(tool) or enough(held.schema) else replace(held, schema=_ANY_OBJECT)
            for tool, held in zip(tools, best, strict=True)
        ]


def _followed(form: CallFormat, tool: Tool) -> HeldTool:
    stated = parameters_of(tool)
    try:
        if tool.form is not None:
            stated = free_parameters(_pattern_of(tool.form))
        _check_length(json.dumps(stated, default=str), "the schema")
        schema = followable(stated, _pattern_fault)
        CallArguments(form, Rules(), _SPELLING).of(schema, stated)  # whether it has words for them
        return HeldTool(tool.name, stated, schema)
    except InvalidRequest as error:
        if _is_strict(tool) or not isinstance(error, UnsupportedRequest):
            raise type(error)("tools", f"{tool.name[:100]}: {error.reason}") from error
        return HeldTool(tool.name, stated, _ANY_OBJECT)


def _is_strict(tool: Tool) -> bool:
    return bool(tool.strict) or tool.form is not None


def _pattern_of(form: GrammarOutput) -> str:
    """What the whole of a free tool's text fits."""
    _check_length(form.source, "the grammar")
    _check_depth(form.source)
    return f"^(?:{form.source if form.syntax == 'regex' else lark_pattern(form.source)})$"


def _alone(schema: Mapping[str, object]) -> bool:
    """Whether llguidance takes it where there is no other."""
    try:
        _compiled(_json_grammar(schema))
    except UnsupportedRequest:
        return False
    return True


def _never(schema: Mapping[str, object]) -> bool:
    return False


def _in_a_thread(work: Callable[[], T]) -> Future[T]:
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            done.set_exception(error)

    try:
        # A daemon: nobody waits at the interpreter's end for what nobody will use.
        threading.Thread(target=run, name="edge_router grammar", daemon=True).start()
    except RuntimeError:  # the system gives no memory for its stack
        run()
    return done


def _waited_for(work: Future[T], cancel: Cancel, seconds: float | None = None) -> T:
    """Raises `UnsupportedRequest` where it takes longer than `seconds`, `Cancelled`."""
    left = seconds
    while True:
        try:
            return work.result(_POLL_S)
        except TimeoutError:
            if work.done():
                raise
        if cancel.is_set():
            raise Cancelled
        if left is not None and (left := left - _POLL_S) <= 0:
            raise UnsupportedRequest(_FIELD, f"{_REFUSED}it takes more than {seconds:g} s to be made")


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """What llguidance raises about it is a limit of its own."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnsupportedRequest(_FIELD, f"llguidance cannot take {what}: {error}") from error


def _json_grammar(schema: object, *, loose: bool = False) -> str:
    from llguidance import LLMatcher

    spelling = _LOOSE_SPELLING if loose else _SPELLING
    with _refusing("the schema"):  # a value that no JSON has, say
        return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=spelling))


def _text_grammar(output: GrammarOutput) -> str:
    from llguidance import LLMatcher

    _check_length(output.source, "the grammar")
    _check_depth(output.source)
    if output.syntax == "lark":
        return _lark(output.source)
    with _refusing("the grammar"):
        return str(LLMatcher.grammar_from_regex(output.source))


def _lark(source: str) -> str:
    from llguidance import LLMatcher

    with _refusing("the grammar"):
        return str(LLMatcher.grammar_from_lark(source))


def _compiled(grammar: str, endings: Sequence[bytes] = (), *, numbers: bool = True) -> _Compiled:
    """`endings`, `numbers`: see `Closing`. Raises `UnsupportedRequest`."""
    from llguidance import LLMatcher

    matcher = LLMatcher(byte_tokenizer(), grammar, log_level=0)
    if matcher.is_error():
        raise UnsupportedRequest(_FIELD, f"{_REFUSED}{first_words(matcher.get_error())}")
    closing = Closing(matcher, endings, numbers=numbers)
    way = closing.way(lambda way: True)
    if way is None:
        fault = f": {said}" if (said := first_words(closing.fault)) else ""
        raise UnsupportedRequest(_FIELD, f"{_REFUSED}no answer is short enough{fault}")
    return grammar, closing, way


def _check_length(text: str, what: str) -> None:
    if len(text) > LONGEST:
        raise UnsupportedRequest(_FIELD, f"{what} has more than {LONGEST} characters")


def _check_depth(source: str) -> None:
    depth = 0
    for char in source:
        depth += (char in "([{") - (char in ")]}")
        if depth > DEEPEST:
            raise UnsupportedRequest(_FIELD, f"the grammar has more than {DEEPEST} levels")


def _pattern_fault(pattern: str) -> str | None:
    try:
        _compiled(_json_grammar({"type": "string", "pattern": pattern}))
    except UnsupportedRequest as error:
        return error.reason.removeprefix(_REFUSED)
    return None
