"""Making a model easier to quantize without changing what it computes.

Columns that meet large activations matter more than others, but share a scale with them. Each such column is
multiplied by a number, and what feeds it (a norm, or a row of the layer before) is divided by the same, so
that the products stay what they were and the column gets more of the group's codes. After AWQ (Lin et al.
2023, arXiv:2306.00978).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

import numpy as np

from edge_router.compile.readers.base import Floats, TensorInfo, WeightsReader
from edge_router.compile.weights.parameters import Parameter
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class Activations:
    """What is known of a model's activations, by parameter name.

    `moments` are mean squares of each input, shape (columns,). `exponents` say how far to equalize: a column
    is multiplied by (its root mean square) ** exponent. `loadings`, shape (columns, factors), say how inputs
    go together: those of two columns times one another are, in the mean, the product of their loadings.
    """

    moments: Mapping[str, Floats] = field(default_factory=dict)
    exponents: Mapping[str, float] = field(default_factory=dict)
    loadings: Mapping[str, Floats] = field(default_factory=dict)

    def factors(self, parameter: Parameter) -> Floats | None:
        """What the columns are multiplied by, their geometric mean being 1; None for not at all."""
        exponent = self.exponents.get(parameter.name, 0.0)
        if not exponent or parameter.feeder is None or parameter.name not in self.moments:
            return None
        return factors(self.moments[parameter.name], exponent)


def factors(moments: Floats, exponent: float) -> Floats:
    least = np.float32(1e-8) * moments.max()  # an input that is always 0 must not weigh infinitely little
    logarithms = np.float32(exponent / 2) * np.log(np.maximum(moments, least))
    found: Floats = np.exp(logarithms - logarithms.mean())
    return found


class Equalized:
    """A checkpoint that computes the same and has its columns equalized; see `WeightsReader`."""

    def __init__(self, inner: WeightsReader, wanted: tuple[Parameter, ...], activations: Activations) -> None:
        self._inner = inner
        self._columns: dict[str, Floats] = {}
        self._feeders: dict[str, Floats] = {}
        for parameter in wanted:
            scale = activations.factors(parameter)
            if scale is not None and parameter.feeder is not None:
                self._columns |= dict.fromkeys(parameter.sources, scale)
                self._feeders[parameter.feeder] = scale

    @property
    def source(self) -> Path:
        return self._inner.source

    @property
    def config(self) -> Mapping[str, object]:
        return self._inner.config

    @property
    def generation(self) -> Mapping[str, object]:
        return self._inner.generation

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._inner.tensors

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        rows = self._inner.rows(name, start, stop)
        if name in self._columns:
            rows *= self._columns[name]
        if name in self._feeders:
            divisors = self._feeders[name][start:stop]
            rows /= divisors if rows.ndim == 1 else divisors[:, None]
        return rows

    @property
    def doubts(self) -> Sequence[str]:
        return self._inner.doubts

    def tokenizer_files(self) -> Mapping[str, bytes]:
        return self._inner.tokenizer_files()

    def close(self) -> None:
        self._inner.close()
