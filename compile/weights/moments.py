"""What a model's linear layers are fed with, which "weighted" and "gptq" quantizing use.

    python -m edge_router.compile.weights.moments WEIGHTS OUT.npz --factors 64

measures it over the calibration text: the mean square of every input, how far equalizing the columns
(`equalize`) lowers the error, and by how many common factors the inputs go together (`loadings`). The file
ships beside the model's card, so that quantizing a known model needs no forward pass.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast
from zipfile import BadZipFile

import numpy as np

from edge_router.architectures.quantization import quantization
from edge_router.compile.readers import open_weights
from edge_router.compile.readers.base import Floats, WeightsReader
from edge_router.compile.weights.equalize import Activations, factors
from edge_router.compile.weights.parameters import Parameter, parameters
from edge_router.compile.weights.quantize import filled, packed, unpacked
from edge_router.compile.weights.quantizers import weighted
from edge_router.errors import InvalidModel

_FORM = quantization("q4f16_1")  # what the exponents are chosen for; they serve the other formats, too
EXPONENTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_ROWS = 256  # of a parameter, to choose its exponent by; evenly spread
_EXPONENT, _LOADINGS = ":exponent", ":loadings"  # after a parameter's name in the file
_STEP = np.float32(0.02)  # of loadings there, in root mean squares of their column
_EXTRACTIONS = 16  # of common factors, each with the variances that the last one left to the columns alone
_SPARE = 16  # more factors than are wanted, so that those that are wanted settle sooner
_ALONE = 1e-2  # of its variance that a column keeps to itself at least


def read_activations(raw: bytes) -> Activations:
    """From an .npz file of root mean squares (float16, which squares would overflow), exponents and loadings.

    Raises `InvalidModel`.
    """
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as data:
            arrays = {name: data[name].astype(np.float32) for name in data.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise InvalidModel("activation moments", f"not a readable .npz file: {error}") from error
    return Activations(
        {name: roots**2 for name, roots in arrays.items() if ":" not in name},
        {name: round(float(value), 3) for name, value in _ending(arrays, _EXPONENT)},
        {name: (_STEP * whole * arrays[name]).T for name, whole in _ending(arrays, _LOADINGS)},
    )


def _ending(arrays: Mapping[str, Floats], suffix: str) -> Iterator[tuple[str, Floats]]:
    return ((name.removesuffix(suffix), array) for name, array in arrays.items() if name.endswith(suffix))


def write_activations(path: Path, activations: Activations) -> None:
    arrays = {name: np.sqrt(moments).astype(np.float16) for name, moments in activations.moments.items()}
    arrays |= {f"{name}{_EXPONENT}": np.array(value, "f2") for name, value in activations.exponents.items()}
    for name, found in activations.loadings.items():
        shares = found / np.sqrt(activations.moments[name] + np.float32(1e-30))[:, None]
        arrays[name + _LOADINGS] = np.rint(shares / _STEP).T.astype(np.int8)
    np.savez_compressed(path, allow_pickle=False, **arrays)


def measure(reader: WeightsReader, sequences: Sequence[Sequence[int]], *, factors: int = 0) -> Activations:
    """Moments over all tokens of `sequences`, and the exponents that suit them and the weights.

    With loadings of so many `factors` where these are more than none.
    """
    moments, loadings = dict[str, Floats](), dict[str, Floats]()
    if factors:
        for layer in covariances(reader, sequences, reader.config):
            moments |= {name: np.diag(covariance).copy() for name, covariance in layer.items()}
            loadings |= {name: common_factors(covariance, factors) for name, covariance in layer.items()}
    else:
        moments = mean_squares(reader, sequences)
    exponents = {
        parameter.name: best_exponent(reader, parameter, moments[parameter.name])
        for parameter in parameters(reader.config, str(reader.source))
        if parameter.feeder is not None
    }
    return Activations(moments, exponents, loadings)


def mean_squares(reader: WeightsReader, sequences: Sequence[Sequence[int]]) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    for layer in _means(
        reader, sequences, reader.config, lambda inputs: np.einsum("tc,tc->c", inputs, inputs)
    ):
        found |= layer
    return found


def covariances(
    reader: WeightsReader, sequences: Sequence[Sequence[int]], config: Mapping[str, object]
) -> Iterator[dict[str, Floats]]:
    """The mean of each parameter's input times itself, shape (columns, columns), one layer after another.

    The last one is that of "lm_head" alone, also where the embedding takes its place.
    """
    return _means(reader, sequences, config, lambda inputs: inputs.T @ inputs)


def _means(
    reader: WeightsReader,
    sequences: Sequence[Sequence[int]],
    config: Mapping[str, object],
    product: Callable[[Floats], Floats],
) -> Iterator[dict[str, Floats]]:
    """Over all tokens, by parameter, layer after layer."""
    from edge_router.compile.weights.reference import Reference

    sums: dict[str, Floats] = {}

    def observe(name: str, inputs: Floats) -> None:
        if name in sums:
            sums[name] += product(inputs)
        else:
            sums[name] = product(inputs)

    count = np.float32(sum(len(tokens) for tokens in sequences))
    for _ in Reference(reader, config).observe(sequences, observe):
        found = {name: np.divide(total, count, out=total) for name, total in sums.items()}
        sums.clear()
        yield found


def common_factors(covariance: Floats, count: int) -> Floats:
    """Loadings of shape (columns, count): factor analysis, most likely (Joreskog 1967).

    What they leave of each column's variance is its own. That keeps little of what many columns have in
    common by chance, so that a few thousand tokens serve texts that were not among them better than the
    covariance itself.
    """
    variances = np.diag(covariance).astype(np.float64)
    scale = np.sqrt(variances + 1e-12 * (variances.max() or 1.0))
    correlation = covariance / np.outer(scale, scale)
    alone = np.full(len(scale), 0.3)
    basis = np.random.default_rng(0).normal(size=(len(scale), min(count + _SPARE, len(scale))))
    for _ in range(_EXTRACTIONS):
        root = np.sqrt(alone)
        standard = correlation / np.outer(root, root)
        basis, _triangle = np.linalg.qr(standard @ basis)
        values, turned = np.linalg.eigh(basis.T @ standard @ basis)
        strengths = np.sqrt(np.maximum(values[-count:] - 1, 0))
        found = root[:, None] * (basis @ turned[:, -count:]) * strengths
        alone = np.maximum(1 - (found * found).sum(1), _ALONE)
    within = np.sqrt(np.minimum(1, (1 - _ALONE) / np.maximum((found * found).sum(1), 1e-12)))
    return cast(Floats, (found * (within * scale)[:, None]).astype(np.float32))


def best_exponent(reader: WeightsReader, parameter: Parameter, moments: Floats) -> float:
    """Of `EXPONENTS`, the one with the least squared error of the products."""
    every = np.concatenate([reader.rows(source) for source in parameter.sources])
    weights = every[:: max(1, len(every) // _ROWS)]

    def error(exponent: float) -> float:
        scale = factors(moments, exponent)
        whole, counted = (filled(each, _FORM) for each in (weights * scale, moments / (scale * scale)))
        codes, scales = weighted(whole, counted, _FORM)
        found = unpacked(packed(codes, _FORM), scales, _FORM)[:, : weights.shape[1]]
        difference = found / scale - weights
        return float((moments * difference * difference).sum())

    return min(EXPONENTS, key=error)


def main(arguments: Sequence[str] | None = None) -> int:
    from edge_router.compile.weights.samples import token_sequences

    parser = argparse.ArgumentParser(
        prog="python -m edge_router.compile.weights.moments", description=__doc__
    )
    parser.add_argument("weights", type=Path, help="a .gguf or .safetensors file, or a folder")
    parser.add_argument("out", type=Path, help="the .npz file to write")
    parser.add_argument("--factors", type=int, default=0, help="of the covariances, for gptq; default: none")
    options = parser.parse_args(arguments)
    reader = open_weights(options.weights)
    sequences = token_sequences(reader, "calibration")
    write_activations(options.out, measure(reader, sequences, factors=options.factors))
    tokens = sum(len(sequence) for sequence in sequences)
    sys.stdout.write(f"{options.out}: measured over {tokens} tokens\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
