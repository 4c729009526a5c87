"""The language model: it is sure of what it says next, and has four other ideas each time.

What it says is decided by the request's seed, and so is what goes wrong.
"""

import math
import random
from collections import Counter
from pathlib import Path

from tokenizers import Tokenizer

from ..protocol.generation_config import GenerationConfig

SAID = "Voilà, the capital."  # "à" is two tokens, each half a character
JSON = '{"a": 1}'  # where xgrammar holds an answer to JSON
FAILS, CRASHES, EXHAUSTED, PREEMPTED, ENDLESS, STALLS = 13, 14, 15, 16, 17, 18  # seeds
SURE, OTHERS, REST = 6.0, {"?": 3.0, " the": 2.0, " ": 1.0, "Ã": 0.0}, -6.0  # logits
LEAST = 1e-10  # a probability, of which a logarithm is told


def _alphabet() -> dict[str, int]:
    """The characters that stand for bytes in vocabularies of GPT-2's kind."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


class Words:
    """Text and tokens of a model's directory, whose tokenizer is one of byte pairs."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._alphabet = _alphabet()

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def bytes_of(self, token: int) -> bytes:
        name = self._tokenizer.id_to_token(token) or ""
        if not all(character in self._alphabet for character in name):
            return name.encode()
        return bytes(self._alphabet[character] for character in name)


class Model:
    """Which token comes next."""

    def __init__(self, words: Words, vocab_size: int, end: int) -> None:
        self._vocab_size = vocab_size
        self._said = [*words.encode(SAID), end]
        self._json = words.encode(JSON)
        self._on = words.encode("on ")
        self._others = {words.encode(text)[0]: logit for text, logit in OTHERS.items()}

    def begun(self, prompt: list[int]) -> int:
        """How many tokens of what it says a prompt ends with: those it goes on from."""
        lengths = range(min(len(prompt), len(self._said) - 1), 0, -1)
        return next((n for n in lengths if prompt[-n:] == self._said[:n]), 0)

    def is_whole(self, said: list[int]) -> bool:
        """Whether the grammar of JSON allows nothing but an end."""
        return said == self._json

    def logits(self, seed: int | None, place: int, *, formed: bool) -> list[float]:
        said = self._on if seed == ENDLESS else self._json if formed else self._said
        row = [REST] * self._vocab_size
        for token, logit in {**self._others, said[place % len(said)]: SURE}.items():
            row[token] = logit
        return row


def probabilities(row: list[float], config: GenerationConfig, said: list[int]) -> list[float]:
    """After the bias, the penalties, the temperature and `top_p`, in this order: what MLC calls probabilities."""
    for token, bias in (config.logit_bias or {}).items():
        row[token] += bias
    for token, count in Counter(said).items():
        row[token] -= (config.presence_penalty or 0) + count * (config.frequency_penalty or 0)
        factor = config.repetition_penalty or 1.0
        row[token] = row[token] / factor if row[token] > 0 else row[token] * factor
    if config.temperature == 0:
        likeliest = row.index(max(row))
        return [float(token == likeliest) for token in range(len(row))]
    highest = max(row)
    raised = [math.exp((logit - highest) / (config.temperature or 1.0)) for logit in row]
    whole = sum(raised)
    found = [value / whole for value in raised]
    kept, total = set[int](), 0.0
    top_p = 1.0 if config.top_p is None else config.top_p
    for token in sorted(range(len(found)), key=lambda token: -found[token]):
        if kept and total >= top_p:
            break
        kept.add(token)
        total += found[token]
    return [value / total if token in kept else 0.0 for token, value in enumerate(found)]


def sample(found: list[float], chance: random.Random) -> int:
    left = chance.random()
    ranked = sorted(range(len(found)), key=lambda token: -found[token])
    for token in ranked:
        left -= found[token]
        if left < 0:
            return token
    return ranked[0]


def logprob_json(words: Words, found: list[float], token: int, top: int) -> dict[str, object]:
    """A token's name has its printable ASCII only; its bytes are right."""

    def entry(token: int) -> dict[str, object]:
        data = words.bytes_of(token)
        name = "".join(chr(byte) for byte in data if 33 <= byte <= 126)
        return {"token": name, "logprob": math.log(max(found[token], LEAST)), "bytes": list(data)}

    likeliest = sorted(range(len(found)), key=lambda token: -found[token])[:top]
    return {**entry(token), "top_logprobs": [entry(other) for other in likeliest]}
