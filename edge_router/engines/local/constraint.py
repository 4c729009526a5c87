"""Answers held to a JSON schema, by llguidance where it is installed (the extra `grammar`)."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.device.process import give_back
from edge_router.engines.local.closing import LONGEST, Closing
from edge_router.engines.local.json_schema import followable
from edge_router.errors import Cancelled, GenerationFailed, UnsupportedRequest
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.types import Cancel

_PACKAGE = "llguidance"
_FIELD = "schema"  # a request has its own name for where it stands
_POLL_S = 0.05  # how often who waits for the tokenizer looks at its cancel
_DIGITS = 24  # of a number; more are wanted by nobody, and a small model finds no end
_WIDEST = 16  # bytes of a token, as far as a way to the end is looked for
_TOKEN_BYTES = 140  # of memory, for each of the vocabulary; measured with 151,669 and 262,145
_THREADS = 2  # that look for masks; one mask takes a fraction of a token's time
# Each character of a text has one spelling, so that llguidance, which compares names as they are spelled,
# compares them rightly. And without limits to white space a small model may write nothing else.
_SPELLING: Any = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "json_allowed_escapes": '"\\bfnrt',
}


def installed() -> bool:
    return find_spec(_PACKAGE) is not None


def tokenizer_bytes(numbers: Mapping[str, object]) -> int:
    """Memory that `Grammars` takes beside a model, by its config.json's keys; nothing without llguidance."""
    size = numbers.get("vocab_size")
    return size * _TOKEN_BYTES if installed() and isinstance(size, int) else 0


class Grammars:
    """Makes masks for one model. Safe to use from many threads.

    Its tokenizer takes half a second of work for 150,000 tokens, so that `prepare` begins it in a thread of
    its own; llguidance has no way to keep one on disk. `size` tokens have logits, `ends` end an answer.
    """

    def __init__(self, tokenizer: TextTokenizer, ends: Collection[int], size: int) -> None:
        self._words = Words(tokenizer, ends, size)
        self._prepared: Future[None] | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def prepare(self) -> Future[None]:
        """Make the tokenizer, once."""
        with self._lock:
            if self._prepared is None:
                self._prepared = Future()
                _in_a_thread(self._words, self._prepared)
            return self._prepared

    def json(self, schema: object, max_tokens: int, cancel: Cancel) -> JsonMask:
        """The mask of one answer, of at most so many tokens; waits for the tokenizer until `cancel`.

        Raises `UnsupportedRequest` for a schema that can't be followed, or without llguidance;
        `InvalidRequest` for what is no schema; `Cancelled`.
        """
        if not installed():
            raise UnsupportedRequest(_FIELD, "needs llguidance: pip install 'edge-router[grammar]'")
        from llguidance import LLMatcher

        prepared = self.prepare()
        grammar = _compiled(followable(schema, _pattern_fault))
        closing = Closing(LLMatcher(_byte_tokenizer(), grammar, log_level=0))
        way = closing.way(lambda way: True)
        if way is None:
            fault = f": {said}" if (said := _said(closing.fault)) else ""
            raise UnsupportedRequest(
                _FIELD, f"cannot be followed by the weak model: no answer is short enough{fault}"
            )
        while not prepared.done():
            if cancel.wait(_POLL_S):
                raise Cancelled
        with _refusing("the model's tokenizer"):
            prepared.result()
            matcher = LLMatcher(self._words.known, grammar, log_level=0)
        return JsonMask(matcher, closing, way, self._words, self._executor(), max_tokens)

    def close(self) -> None:
        with self._lock:
            if self._threads is not None:
                self._threads.shutdown(wait=False, cancel_futures=True)
                self._threads = None

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_THREADS, "edge_router mask")
            return self._threads


class JsonMask:
    """A `TokenMask` whose answer is closed in time: no token is taken behind which it could no longer be.

    The mask of the next token is looked for in another thread, while the model computes. `way` ends an
    answer that has not begun.
    """

    def __init__(
        self,
        matcher: Any,
        closing: Closing,
        way: bytes,
        words: Words,
        threads: ThreadPoolExecutor,
        max_tokens: int,
    ) -> None:
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        self._matcher, self._fill = matcher, fill_next_token_bitmask
        self._bits = allocate_token_bitmask(1, words.known.vocab_size)
        self._closing, self._words, self._threads = closing, words, threads
        self._left = max_tokens
        # Ends the answer within what is left; None where nothing known does. Tokens once they were needed.
        self._way: bytes | Sequence[int] | None = way if self._fits(way, max_tokens) else None
        self._next = threads.submit(self._step, None)
        self.cut = False  # it was ended before the model would have

    @property
    def complete(self) -> bool:
        """Nothing more can come."""
        return self._closing.complete

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Raises `GenerationFailed` where the form has become too large to be followed."""
        self._next.result()
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._words.size]
        return bits.view(np.bool_)

    def affordable(self, token: int) -> int:
        """`token`, or what is said in its place so that the answer is closed in time."""
        if token in self._words.ends or not self._closing.push(self._words.bytes_of(token)):
            return token
        if self._way is None:
            return token
        left, endless = self._left - 1, self._closing.digits > _DIGITS
        way = None
        if not endless:
            way = self._closing.way(lambda way: self._fits(way, left), min(LONGEST, _WIDEST * (left + 1)))
        if way is not None or (rest := self._tokens_of(self._way)) is None:
            self._way = way
            return token
        self._closing.pop()
        if not rest:
            return min(self._words.ends, default=token)
        self._closing.push(self._words.bytes_of(rest[0]))
        self._way = rest[1:]
        self.cut = self.cut or (rest[0] != token and not endless)
        return rest[0]

    def accept(self, token: int) -> None:
        self._left -= 1
        self._next = self._threads.submit(self._step, token)

    def shorten(self, max_tokens: int) -> None:
        """There is room for no more than this."""
        self._left = min(self._left, max_tokens)

    def hurry(self) -> bool:
        """Close it as soon as may be. False where that can't be done."""
        rest = None if self._way is None else self._tokens_of(self._way)
        if rest is None:
            return False
        self.cut = True
        self.shorten(len(rest))
        return True

    def _fits(self, way: bytes, left: int) -> bool:
        if len(way) <= left:  # no token is shorter than a byte
            return True
        tokens = self._tokens_of(way)
        return tokens is not None and len(tokens) <= left

    def _tokens_of(self, way: bytes | Sequence[int]) -> Sequence[int] | None:
        return self._words.cut(way) if isinstance(way, bytes) else way

    def _step(self, token: int | None) -> None:
        if token is not None:
            self._matcher.consume_token(token)
        self._fill(self._matcher, self._bits, 0)
        if self._matcher.is_error():
            raise GenerationFailed(_PACKAGE, _said(self._matcher.get_error()))


class Words:
    """A model's vocabulary as llguidance takes it. `known` is its tokenizer, once `prepare` has made it.

    Of the tokens that have no logits it knows nothing, whichever of the two are more.
    """

    known: Any

    def __init__(self, tokenizer: TextTokenizer, ends: Collection[int], size: int) -> None:
        self._tokenizer, self.size = tokenizer, size
        self.ends = frozenset(token for token in ends if token < size)
        self.bytes_of = tokenizer.token_bytes

    def prepare(self) -> None:
        """Takes its time. Raises `ValueError`."""
        from llguidance import LLTokenizer, TokenizerWrapper

        tokens = self._tokenizer.vocabulary(self.size)
        if not self.ends:
            tokens.append(b"")  # llguidance wants an end; no mask reaches so far
        source = _Source(tokens, min(self.ends, default=self.size), _weakly(self))
        wrapper = TokenizerWrapper(source)
        # Without llguidance's slices, which take twice the memory and make no mask of JSON faster.
        self.known = LLTokenizer(wrapper, eos_token=sorted(self.ends) or [self.size], slices=[])
        wrapper.tokens = source.tokens = ()  # it has a copy

    def cut(self, text: bytes) -> list[int] | None:
        """Tokens of `text`, which goes on an answer; None where there are none."""
        tokens = list(self.known.tokenize_bytes(text))
        return tokens if self._stand_for(tokens, text) else None

    def tokens(self, data: bytes) -> list[int]:
        """Of what llguidance knows must come."""
        text = data.decode("utf-8", "replace")
        tokens = self._tokenizer.continued(text)
        if self._stand_for(tokens, data) or not hasattr(self, "known"):
            return tokens
        return list(self.known.greedy_tokenize(text))

    def _stand_for(self, tokens: Sequence[int], data: bytes) -> bool:
        return max(tokens, default=0) < self.size and b"".join(map(self.bytes_of, tokens)) == data


class _Source:
    """What llguidance asks of a tokenizer that is not its own, which would take ten times the memory."""

    bos_token_id = None
    special_token_ids: Sequence[int] = ()

    def __init__(self, tokens: Sequence[bytes], end: int, tokenize: Callable[[bytes], list[int]]) -> None:
        self.tokens, self.eos_token_id, self._tokenize = tokens, end, tokenize

    def __call__(self, data: bytes) -> list[int]:
        return self._tokenize(data)


def _weakly(words: Words) -> Callable[[bytes], list[int]]:
    """`words.tokens`; a circle through llguidance's objects would never be collected."""
    seen = weakref.ref(words)

    def tokens(data: bytes) -> list[int]:
        words = seen()
        return [] if words is None else words.tokens(data)

    return tokens


def _in_a_thread(words: Words, prepared: Future[None]) -> None:
    def prepare() -> None:
        try:
            words.prepare()
            give_back()  # it has taken ten times what it keeps
        except Exception as error:  # noqa: BLE001  it is raised where it is waited for
            prepared.set_exception(error)
        else:
            prepared.set_result(None)

    try:
        # A daemon: nobody waits at the interpreter's end for what nobody will use.
        threading.Thread(target=prepare, name="edge_router grammar", daemon=True).start()
    except RuntimeError:  # the system gives no memory for its stack
        prepare()


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """What llguidance raises about it is a limit of its own."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnsupportedRequest(_FIELD, f"llguidance cannot take {what}: {error}") from error


@cache
def _byte_tokenizer() -> Any:
    """Of single bytes, and an end."""
    from llguidance import LLTokenizer, TokenizerWrapper

    source = _Source([*(bytes([byte]) for byte in range(256)), b""], 256, list)
    return LLTokenizer(TokenizerWrapper(source), eos_token=[256])


def _compiled(schema: object) -> str:
    """Raises `UnsupportedRequest`."""
    from llguidance import LLMatcher

    with _refusing("the schema"):  # a value that no JSON has, say
        grammar = str(LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_SPELLING))
        fault = LLMatcher.validate_grammar(grammar, _byte_tokenizer())
    if fault:
        raise UnsupportedRequest(_FIELD, f"cannot be followed by the weak model: {_said(fault)}")
    return grammar


def _pattern_fault(pattern: str) -> str | None:
    try:
        _compiled({"type": "string", "pattern": pattern})
    except UnsupportedRequest as error:
        return error.reason.removeprefix("cannot be followed by the weak model: ")
    return None


def _said(fault: str) -> str:
    """What matters of an error of llguidance's, which may go on with the whole grammar."""
    lines = [line.strip() for line in fault.partition("<state>")[0].splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith("error:")), lines[0] if lines else "")
    return said.removeprefix("error: ")[:200]
