"""From a checkpoint's tensors to the parameters that a compiled model loads, one at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.compile.parameters import Parameter
from edge_router.compile.quantizers import GROUP, Codes, quantizer
from edge_router.compile.readers.base import Floats, WeightsReader
from edge_router.errors import InvalidModel, UnknownName, WeightsCorrupt
from edge_router.quantization import WORD_BYTES, Quantization, quantization

Array = npt.NDArray[Any]

_ROWS = 128  # read and quantized at once by a thread
_SUPPORTED = ("q4f16_1", "q4f16_2", "q0f16", "q0f32")


def supported(name: str) -> Quantization:
    """The format called `name`, if weights can be stored in it here. Raises `UnknownName`."""
    form = quantization(name)
    if name not in _SUPPORTED:
        raise UnknownName("quantization that can be written", name, _SUPPORTED)
    return form


def stored_names(form: Quantization, parameter: Parameter) -> tuple[str, ...]:
    if form.quantizes(parameter.kind):
        return f"{parameter.name}.q_weight", f"{parameter.name}.q_scale"
    return (f"{parameter.name}.{parameter.word}",)


def stored_bytes(form: Quantization, parameter: Parameter) -> int:
    rows, columns = math.prod(parameter.shape[:-1]), parameter.shape[-1]
    if not form.quantizes(parameter.kind):
        return rows * columns * form.dtype_bytes
    return rows * form.groups(columns) * (form.words_per_group * WORD_BYTES + form.dtype_bytes)


def quantized(
    reader: WeightsReader,
    parameter: Parameter,
    form: Quantization,
    way: str,
    moments: Floats | None,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[str, Array]]:
    """The stored arrays of one parameter, under their names.

    `way` names a quantizer. Only one parameter is held in memory, and a few rows of its source.
    Raises `InvalidModel` if groups don't divide the columns, `WeightsCorrupt` for weights that aren't finite.
    """
    names = stored_names(form, parameter)
    if not form.quantizes(parameter.kind):
        yield names[0], _plain(reader, parameter, form)
        return
    rows, columns = parameter.shape
    if columns % GROUP:
        raise InvalidModel(
            reader.source, f"{parameter.name} has {columns} columns, which groups of {GROUP} don't divide"
        )
    if moments is not None and moments.shape != (columns,):
        raise InvalidModel(
            reader.source, f"the moments of {parameter.name} are for {len(moments)} columns, not {columns}"
        )
    weights = np.empty((rows, columns // 8), "<u4")
    scales = np.empty((rows, columns // GROUP), form.dtype)
    choose = quantizer(way)

    def work(chunk: tuple[str, int, int, int]) -> None:
        source, start, stop, into = chunk
        codes, chosen = choose(_finite(reader, source, start, stop), moments)
        weights[into : into + stop - start] = packed(codes)
        scales[into : into + stop - start] = chosen

    list(pool.map(work, _chunks(parameter)))
    yield names[0], weights
    yield names[1], scales


def packed(codes: Codes) -> npt.NDArray[np.uint32]:
    """Eight 4-bit codes to a word, the first in the lowest bits."""
    pairs = codes[:, 0::2] | (codes[:, 1::2] << 4)
    return pairs.view("<u4")


def unpacked(words: Array, scales: Array) -> Floats:
    """What the kernels compute from stored arrays: (code - 7) * scale, shape (rows, columns)."""
    pairs = np.ascontiguousarray(words, "<u4").view(np.uint8)
    codes = np.empty((len(pairs), pairs.shape[1] * 2), np.float32)
    codes[:, 0::2] = pairs & 15
    codes[:, 1::2] = pairs >> 4
    codes -= 7
    grouped = codes.reshape(len(codes), -1, GROUP)
    grouped *= scales.astype(np.float32)[..., None]
    return codes


def _plain(reader: WeightsReader, parameter: Parameter, form: Quantization) -> Array:
    array: Array = np.empty(parameter.shape, form.dtype)
    for source, start, stop, into in _chunks(parameter):
        array[into : into + stop - start] = _finite(reader, source, start, stop) + np.float32(parameter.plus)
    return array


def _chunks(parameter: Parameter) -> Iterator[tuple[str, int, int, int]]:
    """(source, first row, last row, where they go) of pieces that a thread handles at once."""
    step = _ROWS if len(parameter.shape) > 1 else parameter.shape[0]
    into = 0
    for source, rows in zip(parameter.sources, parameter.source_rows, strict=True):
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            yield source, start, stop, into + start
        into += rows


def _finite(reader: WeightsReader, source: str, start: int, stop: int) -> Floats:
    weights = reader.rows(source, start, stop)
    if not np.isfinite(weights).all():
        raise WeightsCorrupt(reader.source, f"finite numbers in {source}", "infinities or NaN")
    return weights
