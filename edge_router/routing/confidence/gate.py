"""From what the weak model shows before its answer is read to the chance that the answer is right.

Everything is a sum of products of at most a thousand numbers, so plain Python does; fitting is `fit`'s.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from edge_router.chat.request import SignalRequest
from edge_router.errors import InvalidData
from edge_router.parsing import strict_json
from edge_router.records import dataclass

FORMAT = 1
_STEEP = 60.0  # beyond these log odds a chance is 0 or 1 to a float anyway, and exp would overflow


@dataclass(frozen=True, slots=True)
class LogisticRegression:
    """Logistic regression."""

    weights: tuple[float, ...]
    bias: float

    def log_odds(self, values: Sequence[float]) -> float:
        return math.fsum(map(_times, self.weights, values)) + self.bias


def _times(left: float, right: float) -> float:
    return left * right


@dataclass(frozen=True, slots=True)
class Gate:
    """What was fitted for one weak model. Heads estimate the chance that its answer is right.

    `probe` reads the logits of the tokens `anchors` behind the prompt: with at least as many of them as the
    last hidden state has numbers they are that state in other coordinates, for the logits are a linear map
    of it. `said` reads the mean and the lowest log probability of the first `tokens` tokens, `both` these
    and the probe's log odds. With `tokens` 0 the probe alone decides, before the first token.
    """

    tokens: int
    anchors: tuple[int, ...]
    probe: LogisticRegression
    said: LogisticRegression
    both: LogisticRegression

    def signals(self, *, alone: bool) -> SignalRequest:
        return SignalRequest(self.tokens, self.anchors, alone)

    def chance(self, state: Sequence[float], logprobs: Sequence[float]) -> float | None:
        """0..1; None where nothing was seen: engines may leave out either, or both."""
        probed = self.probe.log_odds(state) if len(state) == len(self.anchors) > 0 else None
        if not (self.tokens and logprobs):
            return None if probed is None else _chance(probed)
        seen = summary(logprobs[: self.tokens])
        if probed is None:
            return _chance(self.said.log_odds(seen))
        return _chance(self.both.log_odds((*seen, probed)))

    def to_json(self) -> str:
        heads = {name: [head.bias, *head.weights] for name, head in self._heads().items()}
        values = {"format": FORMAT, "tokens": self.tokens, "anchors": self.anchors}
        return json.dumps({**values, **heads})

    def _heads(self) -> dict[str, LogisticRegression]:
        return {"probe": self.probe, "said": self.said, "both": self.both}

    @classmethod
    def read(cls, file: Path) -> Gate:
        """Raises `InvalidData`."""
        try:
            found = strict_json.read_object(file)
            if found["format"] != FORMAT:
                raise InvalidData(file, f"it has format {found['format']}, this version reads {FORMAT}")
            probe, said, both = (_head(found[name]) for name in ("probe", "said", "both"))
            anchors = tuple(int(token) for token in found["anchors"])
            gate = cls(int(found["tokens"]), anchors, probe, said, both)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidData(file, f"is no calibration of a weak model: {error!r}") from error
        sizes = (len(gate.anchors), 2, 3)
        if tuple(len(head.weights) for head in (probe, said, both)) != sizes:
            raise InvalidData(file, "is no calibration of a weak model: a head has the wrong size")
        return gate


def summary(logprobs: Sequence[float]) -> tuple[float, float]:
    """Mean and lowest log probability."""
    return math.fsum(logprobs) / len(logprobs), min(logprobs)


def _chance(log_odds: float) -> float:
    return 1 / (1 + math.exp(-min(max(log_odds, -_STEEP), _STEEP)))


def _head(values: Sequence[float]) -> LogisticRegression:
    bias, *weights = (float(value) for value in values)
    return LogisticRegression(tuple(weights), bias)
