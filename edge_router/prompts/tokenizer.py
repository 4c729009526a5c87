"""A model's tokenizer: text to tokens, and the bytes that each token stands for.

Bytes rather than text, because one token may hold half of a character; `answer.py` joins them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import tokenizers

from edge_router.errors import InvalidModel
from edge_router.parsing import strict_json
from edge_router.prompts.turns import is_mark
from edge_router.records import dataclass

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SEAM = "\ufdd0"  # a code point that Unicode keeps out of texts: it cuts a control token in two


class TextTokenizer:
    """The tokenizer.json of a model directory. Safe to use from many threads.

    `marks` are what the chat template writes around turns, which no message may hold, tokens or not; `speech`
    are those around tools, calls and thoughts, which what the model has said itself may hold.
    Raises `InvalidModel` when the file is missing or damaged, or when its decoder is none of the byte-level
    and sentencepiece-like ones that decoder-only models have.
    """

    def __init__(self, file: Path, marks: Iterable[str] = (), speech: Iterable[str] = ()) -> None:
        self.file = file
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises nothing more special than Exception
            raise InvalidModel(file, f"no tokenizer: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        decoder = self._tokenizer.decoder
        state = b"{}" if decoder is None else decoder.__getstate__()
        self._decoding = _decoding(strict_json.parse(state), file)
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = frozenset(token for token, item in added.items() if item.special)
        self._size = max(self._tokenizer.get_vocab_size(), *(token + 1 for token in added), 1)
        self.added = {item.content: token for token, item in added.items()}
        marked = [mark for mark in marks if is_mark(mark)]
        self._foreign = self._guarding([*marked, *filter(is_mark, (*speech, *self.added))])
        self._own = self._guarding([*marked, *(added[token].content for token in self._special)])
        # Such a token is found in what the normalizer has made of a text.
        normalized = self._tokenizer.normalizer is not None
        self._renewed = {
            token for token, item in added.items() if normalized and item.normalized and is_mark(item.content)
        }
        self._known: dict[int, bytes] = {}
        self._read: frozenset[int] = frozenset()

    def reveal(self, names: Iterable[str]) -> None:
        """Let those control tokens stand for their names: texts are read by them."""
        self._read = frozenset(self.added[name] for name in names if name in self.added)
        self._known.clear()

    @property
    def vocab_size(self) -> int:
        """One more than the highest token; a model's logits may be padded beyond it."""
        return self._size

    @property
    def leading_space(self) -> bool:
        """Whether a text's first token brings a space that the text does not have."""
        return self._decoding.leading_space

    def token(self, name: str) -> int | None:
        """The token that is written `name`."""
        found = self._tokenizer.token_to_id(name)
        return None if found is None else int(found)

    def encode(self, text: str, *, special: bool = False, follows: bool = False) -> list[int]:
        """Tokens of `text`, in which control tokens such as <|im_end|> mean what they say.

        `special` adds what the tokenizer puts around a text, such as a token for its beginning. `follows`:
        other text comes before it. `guard`ed parts are plain text whatever they look like.
        """
        first, *rest = _clean(text).split(_SEAM)
        if follows:
            ids = self._continued(first)
        else:
            ids = list(self._tokenizer.encode(first, add_special_tokens=special).ids)
        for piece in rest:
            ids += self._continued(piece)
        return ids

    def beginning(self) -> list[int]:
        """What the tokenizer puts before a text."""
        whole, plain = (self.encode("x", special=special) for special in (True, False))
        places = range(len(whole) - len(plain) + 1)
        return whole[: next((at for at in places if whole[at : at + len(plain)] == plain), 0)]

    def guard(self, text: str, *, own: bool = False) -> str:
        """`text` from a message, so that what looks like a mark in it does not become one.

        Otherwise a pasted web page could end the user's turn and begin a system message. What the model has
        said itself (`own`) keeps its thoughts and calls, which templates look for.
        """
        cut = (self._own if own else self._foreign)(text.replace(_SEAM, ""))
        return _SEAM.join(map(self._cut_normalized, cut.split(_SEAM))) if self._renewed and not own else cut

    def _guarding(self, names: Iterable[str]) -> Callable[[str], str]:
        """Cuts each of `names` in two, also where one begins within another."""
        places = {name: self._place(name) for name in names if len(name) > 1}
        if not places:
            return lambda text: text
        lengths: dict[str, set[int]] = {}
        for name in places:
            lengths.setdefault(name[0], set()).add(len(name))
        longest_first = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        seek = re.compile(f"[{''.join(map(re.escape, lengths))}]")

        def cut(text: str) -> str:
            seams = set()
            for start in (found.start() for found in seek.finditer(text)):
                held = (text[start : start + length] for length in longest_first[text[start]])
                if (name := next((piece for piece in held if piece in places), None)) is not None:
                    seams.add(start + places[name])
            return (
                _SEAM.join(text[i:j] for i, j in pairwise([0, *sorted(seams), len(text)])) if seams else text
            )

        return cut

    def _place(self, name: str) -> int:
        """Where to cut: behind the first character of a token, and where the pieces are others for a text."""
        if name in self.added:
            return 1
        whole = self.encode(name)
        places = range(1, len(name))
        return next((at for at in places if self.encode(f"{name[:at]}{_SEAM}{name[at:]}") != whole), 1)

    def _cut_normalized(self, text: str) -> str:
        """`text` with a seam in each token that only its normal form has."""
        if self._tokenizer.normalizer.normalize_str(text) == text:
            return text
        found = self._tokenizer.encode(text, add_special_tokens=False)
        spans = zip(found.ids, found.offsets, strict=True)
        seams = [begin + 1 for token, (begin, end) in spans if token in self._renewed and end - begin > 1]
        return _SEAM.join(text[i:j] for i, j in pairwise([0, *seams, len(text)])) if seams else text

    def token_bytes(self, token: int) -> bytes:
        """What `token` stands for; nothing for a control token or one that does not exist."""
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = self._bytes_of(token)
        return known

    def vocabulary(self, size: int) -> list[bytes]:
        """`token_bytes` of the first `size` tokens; none of them is remembered."""
        return [self._bytes_of(token) for token in range(size)]

    def continued(self, text: str) -> list[int]:
        """Tokens of plain `text` that follows other text."""
        return [token for piece in self.guard(text).split(_SEAM) for token in self._continued(piece)]

    def spoken(self, text: str) -> list[int]:
        """Tokens of what the model would write behind other text, in which marks are marks."""
        return self._continued(text)

    def _bytes_of(self, token: int) -> bytes:
        name = self._tokenizer.id_to_token(token)
        if name is None or token in self._special:
            return name.encode() if name is not None and token in self._read else b""
        return self._decoding.bytes_of(name)

    def _continued(self, piece: str) -> list[int]:
        """Tokens of what follows other text: a sentencepiece tokenizer must not put a space before it."""
        lead = self._tokenizer.encode("\n", add_special_tokens=False).ids
        ids = list(self._tokenizer.encode("\n" + piece, add_special_tokens=False).ids)
        if ids[: len(lead)] == lead:
            return ids[len(lead) :]
        return list(self._tokenizer.encode(piece, add_special_tokens=False).ids)


@dataclass(frozen=True, slots=True)
class _Decoding:
    """How a token's name is to be read, from the tokenizer's own decoder."""

    byte_level: bool = False  # every character of a name stands for a byte, as in GPT-2
    byte_fallback: bool = False  # names such as <0x0A> stand for a byte
    space: str = ""  # the character that stands for a space
    leading_space: bool = False

    def bytes_of(self, name: str) -> bytes:
        if self.byte_level:
            table = _gpt2_bytes()
            try:
                return bytes(table[character] for character in name)
            except KeyError:  # an added token, which is written as it is
                return name.encode()
        if self.byte_fallback and (found := _BYTE_TOKEN.fullmatch(name)):
            return bytes([int(found[1], 16)])
        return (name.replace(self.space, " ") if self.space else name).encode()


def _decoding(decoder: Mapping[str, object], file: Path) -> _Decoding:
    """The parts of a decoder (tokenizers' own JSON) that matter, one after the other."""
    inner = decoder.get("decoders")
    parts = inner if isinstance(inner, list) else [decoder]
    decoding = _Decoding()
    for part in parts:
        match part:
            case {"type": "ByteLevel"}:
                decoding = replace(decoding, byte_level=True)
            case {"type": "ByteFallback"}:
                decoding = replace(decoding, byte_fallback=True)
            case {"type": "Replace", "pattern": {"String": str(space)}, "content": " "}:
                decoding = replace(decoding, space=space)
            case {"type": "Metaspace", "replacement": str(space), **rest}:
                leads = rest.get("prepend_scheme", "always") != "never"
                decoding = replace(decoding, space=space, leading_space=leads)
            case {"type": "Strip", "content": " ", "start": 1, "stop": 0}:
                decoding = replace(decoding, leading_space=True)
            case {"type": "Fuse"}:
                pass
            case _:
                raise InvalidModel(file, f"the tokenizer's decoder is not supported: {json.dumps(part)}")
    return decoding


@cache
def _gpt2_bytes() -> dict[str, int]:
    """GPT-2 writes the 188 printable bytes of Latin-1 as themselves and the others from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + index): byte for index, byte in enumerate(others)}


def _clean(text: str) -> str:
    """`text` without halves of surrogate pairs, which JSON can carry and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
