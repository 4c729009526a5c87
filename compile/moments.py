"""What a model's linear layers are fed with: the mean square of each input, which "weighted" quantizing uses.

    python -m edge_router.compile.moments WEIGHTS OUT.npz

measures it over the calibration text. The file ships beside the model's card, so that quantizing a known
model needs no forward pass.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from edge_router.compile.quantize import Moments
from edge_router.compile.readers import open_weights
from edge_router.compile.readers.base import Floats, WeightsReader
from edge_router.errors import InvalidModel


def read_moments(raw: bytes) -> Moments:
    """From an .npz file of root mean squares, in float16, which squares would overflow.

    Raises `InvalidModel`.
    """
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as data:
            return {name: data[name].astype(np.float32) ** 2 for name in data.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise InvalidModel("activation moments", f"not a readable .npz file: {error}") from error


def write_moments(path: Path, moments: Mapping[str, Floats]) -> None:
    roots = {name: np.sqrt(values).astype(np.float16) for name, values in moments.items()}
    np.savez_compressed(path, allow_pickle=False, **roots)


def measure(reader: WeightsReader, sequences: Sequence[Sequence[int]]) -> dict[str, Floats]:
    """Mean square of every input of every linear layer, over all tokens of `sequences`."""
    from edge_router.compile.reference import Reference

    model = Reference(reader)
    sums: dict[str, Floats] = {}

    def observe(name: str, inputs: Floats) -> None:
        squares = np.einsum("tc,tc->c", inputs, inputs)
        sums[name] = sums[name] + squares if name in sums else squares

    for tokens in sequences:
        model.reset()
        model.hidden(tokens, observe)
    count = np.float32(sum(len(tokens) for tokens in sequences))
    return {name: total / count for name, total in sums.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    from edge_router.compile.samples import token_sequences

    parser = argparse.ArgumentParser(prog="python -m edge_router.compile.moments", description=__doc__)
    parser.add_argument("weights", type=Path, help="a .gguf or .safetensors file, or a folder")
    parser.add_argument("out", type=Path, help="the .npz file to write")
    options = parser.parse_args(arguments)
    reader = open_weights(options.weights)
    sequences = token_sequences(reader, "calibration")
    write_moments(options.out, measure(reader, sequences))
    tokens = sum(len(sequence) for sequence in sequences)
    sys.stdout.write(f"{options.out}: measured over {tokens} tokens\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
