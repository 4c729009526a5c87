"""What a quantizer needs to know of each parameter, in the order in which they are quantized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edge_router.architectures.quantization import Quantization
from edge_router.compile.readers.base import Floats, WeightsReader
from edge_router.compile.weights.equalize import Activations, Equalized
from edge_router.compile.weights.moments import best_exponent, covariances
from edge_router.compile.weights.parameters import Parameter, is_tied
from edge_router.compile.weights.quantizers import GPTQ, Quantizer, quantizer, signed
from edge_router.compile.weights.samples import token_sequences
from edge_router.errors import WeightsCorrupt
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class Prepared:
    """`moments` are mean squares of what the parameter, as `reader` gives it, is multiplied with."""

    parameter: Parameter
    reader: WeightsReader
    choose: Quantizer
    moments: Floats | None = None


def prepared(
    reader: WeightsReader,
    wanted: tuple[Parameter, ...],
    form: Quantization,
    way: str,
    activations: Activations,
    config: Mapping[str, object],
) -> Iterator[Prepared]:
    """Every parameter of `wanted`, which is of the model that `config` describes.

    "gptq" measures for itself what it does not find among `activations`. Raises `UnknownName`.
    """
    if way == GPTQ and form.bits is not None:
        if activations.loadings:
            return _known(reader, wanted, form, activations, config)
        return _measured(reader, wanted, form, config)
    tied, choose = is_tied(config), signed if way == GPTQ else quantizer(way)
    equalized = Equalized(reader, wanted, activations)
    return (
        Prepared(parameter, equalized, choose, _moments(parameter, activations, tied=tied))
        for parameter in wanted
    )


def _known(
    reader: WeightsReader,
    wanted: tuple[Parameter, ...],
    form: Quantization,
    activations: Activations,
    config: Mapping[str, object],
) -> Iterator[Prepared]:
    from edge_router.compile.weights.gptq import Gptq  # by compiled kernels: other quantizers need no TVM

    equalized, tied = Equalized(reader, wanted, activations), is_tied(config)
    for parameter in wanted:
        choose: Quantizer = signed
        fed = _fed(parameter, tied=tied)
        if fed in activations.loadings and form.quantizes(parameter.kind):
            choose = Gptq.of_loadings(*_equalized(activations, fed, parameter), form)
        yield Prepared(parameter, equalized, choose)


def _measured(
    reader: WeightsReader, wanted: tuple[Parameter, ...], form: Quantization, config: Mapping[str, object]
) -> Iterator[Prepared]:
    """The layers one after another, as the calibration text goes through them, and then what is in none."""
    from edge_router.compile.weights.gptq import Gptq

    left, texts = wanted, token_sequences(reader, "calibration")
    for number, found in enumerate(covariances(reader, texts, config)):
        for name, covariance in found.items():
            if not np.isfinite(covariance).all():
                raise WeightsCorrupt(
                    reader.source, "finite numbers", f"infinities or NaN on the way to {name}"
                )
        within = f"model.layers.{number}."
        layer = tuple(parameter for parameter in left if parameter.sources[0].startswith(within)) or left
        left = tuple(parameter for parameter in left if parameter not in layer)
        activations = _activations(reader, layer, found)
        equalized = Equalized(reader, layer, activations)
        for parameter in layer:
            fed = _fed(parameter, tied=is_tied(config))
            if fed not in found or not form.quantizes(parameter.kind):
                yield Prepared(parameter, equalized, signed)
                continue
            covariance, scale = found.pop(fed), activations.factors(parameter)
            if scale is not None:
                covariance = covariance / np.outer(scale, scale)
            yield Prepared(parameter, equalized, Gptq.of_covariance(covariance, form))


def _equalized(activations: Activations, fed: str, parameter: Parameter) -> tuple[Floats, Floats]:
    """Moments and loadings of what the equalized parameter is multiplied with."""
    moments, loadings = activations.moments[fed], activations.loadings[fed]
    scale = activations.factors(parameter)
    return (moments, loadings) if scale is None else (moments / (scale * scale), loadings / scale[:, None])


def _activations(
    reader: WeightsReader, layer: tuple[Parameter, ...], found: Mapping[str, Floats]
) -> Activations:
    moments = {name: np.ascontiguousarray(np.diag(covariance)) for name, covariance in found.items()}
    exponents = {
        parameter.name: best_exponent(reader, parameter, moments[parameter.name])
        for parameter in layer
        if parameter.feeder is not None
    }
    return Activations(moments, exponents)


def _moments(parameter: Parameter, activations: Activations, *, tied: bool) -> Floats | None:
    """Once equalized."""
    moments = activations.moments.get(_fed(parameter, tied=tied))
    scale = activations.factors(parameter)
    return moments if moments is None or scale is None else moments / (scale * scale)


def _fed(parameter: Parameter, *, tied: bool) -> str:
    """Whose inputs are those of this parameter."""
    return "lm_head" if tied and parameter.kind == "embedding" else parameter.name
