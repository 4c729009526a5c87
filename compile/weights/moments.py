"""What a model's linear layers are fed with, which "weighted" quantizing uses.

    python -m edge_router.compile.weights.moments WEIGHTS OUT.npz

measures it over the calibration text: the mean square of every input, and how far equalizing the columns
(`equalize`) lowers the error. The file ships beside the model's card, so that quantizing a known model needs
no forward pass.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from edge_router.compile.readers import open_weights
from edge_router.compile.readers.base import Floats, WeightsReader
from edge_router.compile.weights.equalize import Activations, factors
from edge_router.compile.weights.parameters import Parameter, parameters
from edge_router.compile.weights.quantize import packed, unpacked
from edge_router.compile.weights.quantizers import weighted
from edge_router.errors import InvalidModel
from edge_router.quantization import quantization

_FORM = quantization("q4f16_1")  # what the exponents are chosen for; they serve the other formats, too
EXPONENTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_ROWS = 256  # of a parameter, to choose its exponent by; evenly spread
_EXPONENT = ":exponent"  # after a parameter's name in the file


def read_activations(raw: bytes) -> Activations:
    """From an .npz file of root mean squares (float16, which squares would overflow) and exponents.

    Raises `InvalidModel`.
    """
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as data:
            arrays = {name: data[name].astype(np.float32) for name in data.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise InvalidModel("activation moments", f"not a readable .npz file: {error}") from error
    return Activations(
        {name: roots**2 for name, roots in arrays.items() if not name.endswith(_EXPONENT)},
        {
            name.removesuffix(_EXPONENT): round(float(value), 3)
            for name, value in arrays.items()
            if name.endswith(_EXPONENT)
        },
    )


def write_activations(path: Path, activations: Activations) -> None:
    arrays = {name: np.sqrt(moments).astype(np.float16) for name, moments in activations.moments.items()}
    arrays |= {f"{name}{_EXPONENT}": np.array(value, "f2") for name, value in activations.exponents.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def measure(reader: WeightsReader, sequences: Sequence[Sequence[int]]) -> Activations:
    """Moments over all tokens of `sequences`, and the exponents that suit them and the weights."""
    moments = mean_squares(reader, sequences)
    exponents = {
        parameter.name: best_exponent(reader, parameter, moments[parameter.name])
        for parameter in parameters(reader.config, str(reader.source))
        if parameter.feeder is not None
    }
    return Activations(moments, exponents)


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


def best_exponent(reader: WeightsReader, parameter: Parameter, moments: Floats) -> float:
    """Of `EXPONENTS`, the one with the least squared error of the products."""
    every = np.concatenate([reader.rows(source) for source in parameter.sources])
    weights = every[:: max(1, len(every) // _ROWS)]

    def error(exponent: float) -> float:
        scale = factors(moments, exponent)
        codes, scales = weighted(weights * scale, moments / (scale * scale), _FORM)
        difference = unpacked(packed(codes, _FORM), scales, _FORM) / scale - weights
        return float((moments * difference * difference).sum())

    return min(EXPONENTS, key=error)


def main(arguments: Sequence[str] | None = None) -> int:
    from edge_router.compile.weights.samples import token_sequences

    parser = argparse.ArgumentParser(
        prog="python -m edge_router.compile.weights.moments", description=__doc__
    )
    parser.add_argument("weights", type=Path, help="a .gguf or .safetensors file, or a folder")
    parser.add_argument("out", type=Path, help="the .npz file to write")
    options = parser.parse_args(arguments)
    reader = open_weights(options.weights)
    sequences = token_sequences(reader, "calibration")
    write_activations(options.out, measure(reader, sequences))
    tokens = sum(len(sequence) for sequence in sequences)
    sys.stdout.write(f"{options.out}: measured over {tokens} tokens\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
