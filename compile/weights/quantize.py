"""From a checkpoint's tensors to the parameters that a compiled model loads, one at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.architectures.quantization import QUANTIZATIONS, WORD_BYTES, Quantization
from edge_router.compile.readers.base import Floats, WeightsReader
from edge_router.compile.weights.parameters import Parameter
from edge_router.compile.weights.quantizers import Codes, Quantizer
from edge_router.errors import InvalidModel, UnknownName, WeightsCorrupt

Array = npt.NDArray[Any]

_ROWS = 256  # read and quantized at once by a thread
# bfloat16 is no type that numpy or the kernels know.
_SUPPORTED = tuple(name for name, form in QUANTIZATIONS.items() if form.dtype != "bfloat16")


def supported(name: str) -> Quantization:
    """The format called `name`, if weights can be stored in it here. Raises `UnknownName`."""
    if name not in _SUPPORTED:
        raise UnknownName("quantization that can be written", name, _SUPPORTED)
    return QUANTIZATIONS[name]


def stored_names(form: Quantization, parameter: Parameter) -> tuple[str, ...]:
    if form.quantizes(parameter.kind):
        return f"{parameter.name}.q_weight", f"{parameter.name}.q_scale"
    return (f"{parameter.name}.{parameter.word}",)


def stored_bytes(form: Quantization, parameter: Parameter) -> int:
    rows, columns = math.prod(parameter.shape[:-1]), parameter.shape[-1]
    if not form.quantizes(parameter.kind):
        return rows * columns * form.dtype_bytes
    return rows * form.groups(columns) * (form.words_per_group * WORD_BYTES + form.dtype_bytes)


def check_groups(
    form: Quantization, parameters: tuple[Parameter, ...], where: Path | str, unit: int = 8
) -> None:
    """Raises `InvalidModel` where `unit` does not divide a matrix's columns, or experts lie transposed.

    A processor fills the last group of 32 up and reads numbers by eights, a GPU's kernels want whole groups.
    Groups of 40 divide hardly any model's columns: those are always filled up.
    """
    for parameter in parameters:
        if len(parameter.shape) > 2 and form.transposes(parameter.kind):
            raise InvalidModel(where, f"experts are not stored in {form.name}; q4f16_1 and q4f32_1 can")
    if form.bits != 4:
        return
    for parameter in parameters:
        columns = parameter.shape[-1]
        if form.quantizes(parameter.kind) and columns % unit:
            where_to = "a GPU needs it to; a processor runs it" if unit > 8 else f"{form.name} needs it to"
            raise InvalidModel(
                where, f"{parameter.name} has {columns} columns, which {unit} does not divide, as {where_to}"
            )


def quantized(
    reader: WeightsReader,
    parameter: Parameter,
    form: Quantization,
    choose: Quantizer,
    moments: Floats | None,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[str, Array]]:
    """The stored arrays of one parameter, under their names.

    Only one parameter is held in memory, and a few rows of its source.
    Raises `InvalidModel` for moments of another width, `WeightsCorrupt` for weights that aren't finite.
    """
    names = stored_names(form, parameter)
    if not form.quantizes(parameter.kind):
        yield names[0], _plain(reader, parameter, form)
        return
    rows, columns = math.prod(parameter.shape[:-1]), parameter.shape[-1]
    if moments is not None and moments.shape != (columns,):
        raise InvalidModel(
            reader.source, f"the moments of {parameter.name} are for {len(moments)} columns, not {columns}"
        )
    groups, sideways = form.groups(columns), form.transposes(parameter.kind)
    counted = None if moments is None else filled(moments, form)
    words = _empty(rows, groups * form.words_per_group, "<u4", sideways)
    scales = _empty(rows, groups, form.dtype, sideways)

    def work(chunk: tuple[str, int, int, int]) -> None:
        source, start, stop, into = chunk
        codes, chosen = choose(filled(_finite(reader, source, start, stop, form), form), counted, form)
        codes[:, columns:] = 0
        words[into : into + stop - start] = packed(codes, form)
        scales[into : into + stop - start] = chosen

    list(pool.map(work, _chunks(parameter)))
    for name, array in zip(names, (words, scales), strict=True):
        yield name, array.T if sideways else array.reshape(*parameter.shape[:-1], -1)


def packed(codes: Codes, form: Quantization) -> npt.NDArray[np.uint32]:
    """As many codes to a word as fit, the first in the lowest bits; shape (rows, words)."""
    assert form.bits is not None
    if form.bits == 4:
        pairs = codes[:, 0::2] | (codes[:, 1::2] << 4)
        return np.ascontiguousarray(pairs).view("<u4")
    each = form.group // form.words_per_group
    words = codes[:, 0::each].astype("<u4")
    for place in range(1, each):
        words |= codes[:, place::each].astype("<u4") << np.uint32(form.bits * place)
    return words


def unpacked(words: Array, scales: Array, form: Quantization) -> Floats:
    """What the kernels compute from rows as `packed` gives them: (code - zero) * scale, in whole groups."""
    assert form.bits is not None
    each = form.group // form.words_per_group
    whole = np.ascontiguousarray(words, "<u4")
    codes = np.empty((*whole.shape, each), np.float32)
    for place in range(each):
        codes[..., place] = (whole >> np.uint32(form.bits * place)) & np.uint32((1 << form.bits) - 1)
    codes -= np.float32(form.zero)
    grouped = codes.reshape(len(whole), -1, form.group)
    grouped *= scales.astype(np.float32)[..., None]
    return grouped.reshape(len(whole), -1)


def filled(values: Floats, form: Quantization) -> Floats:
    """Zeros up to whole groups at the end of the last axis: they change no scale."""
    columns = values.shape[-1]
    missing = form.groups(columns) * form.group - columns
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)]) if missing else values


def _empty(rows: int, columns: int, dtype: str, sideways: bool) -> Array:
    """Shape (rows, columns), but laid out as its transpose if `sideways`, which then needs no copy."""
    return np.empty((columns, rows), dtype).T if sideways else np.empty((rows, columns), dtype)


def _plain(reader: WeightsReader, parameter: Parameter, form: Quantization) -> Array:
    array: Array = np.empty((sum(parameter.source_rows), *parameter.columns), form.dtype)
    for source, start, stop, into in _chunks(parameter):
        rows = _finite(reader, source, start, stop, form)
        array[into : into + stop - start] = rows + np.float32(parameter.plus)
    return array.reshape(parameter.shape)


def _chunks(parameter: Parameter) -> Iterator[tuple[str, int, int, int]]:
    """(source, first row, last row, where they go) of pieces that a thread handles at once."""
    step = _ROWS if len(parameter.shape) > 1 else parameter.shape[0]
    into = 0
    for source, rows in zip(parameter.sources, parameter.source_rows, strict=True):
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            yield source, start, stop, into + start
        into += rows


def _finite(reader: WeightsReader, source: str, start: int, stop: int, form: Quantization) -> Floats:
    """Rows that are numbers, and numbers that the format's own type can hold."""
    weights = reader.rows(source, start, stop)
    largest = float(np.abs(weights).max(initial=0.0))  # NaN where there is one
    if not math.isfinite(largest):
        raise WeightsCorrupt(reader.source, f"finite numbers in {source}", "infinities or NaN")
    if largest > float(np.finfo(form.dtype).max):
        held = f"{source} holds a weight of {largest:g}, which {form.dtype} cannot hold"
        raise InvalidModel(reader.source, f"{held}; q4f32_1 and q0f32 can")
    return weights
