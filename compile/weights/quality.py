"""How much a quantizer costs: perplexity, KL divergence and agreement against the unquantized weights.

    python -m edge_router.compile.weights.quality WEIGHTS [--moments FILE.npz] [--quantizer NAME] ...
    python -m edge_router.compile.weights.quality WEIGHTS --kv-cache int8 [--tokens 4096]

Measured over the evaluation text, which the quantizers have not seen, with the numpy reference model. With
`--kv-cache` the same of keys and values that are kept so, beside the weights as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from edge_router.catalog.cards import MEASURED, QUANTIZERS
from edge_router.compile.readers import open_weights
from edge_router.compile.readers.base import Floats, WeightsReader
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.quantize import supported
from edge_router.compile.weights.quantizers import WEIGHTED
from edge_router.compile.weights.reference import Reference
from edge_router.records import dataclass

_TOGETHER = 512  # tokens whose probabilities are held at once


@dataclass(frozen=True, slots=True)
class FormatQuality:
    """`divergence` is KL(unquantized, quantized) in nats a token; `agreement` of the most probable token."""

    quantizer: str
    tokens: int
    perplexity: float
    divergence: float
    agreement: float


def compare(
    original: WeightsReader, others: Sequence[tuple[str, WeightsReader]], sequences: Sequence[Sequence[int]]
) -> list[FormatQuality]:
    """The unquantized model first, then each of `others` against it."""
    return compare_models(
        ("unquantized", Reference(original)),
        [(name, Reference(reader)) for name, reader in others],
        sequences,
    )


def compare_models(
    first: tuple[str, Reference], others: Sequence[tuple[str, Reference]], sequences: Sequence[Sequence[int]]
) -> list[FormatQuality]:
    """`first`, then each of `others` against it."""
    models = [first, *others]
    sums = np.zeros((len(models), 3))
    for tokens in sequences:
        for _, model in models:
            model.reset()
        for start in range(0, len(tokens), _TOGETHER):
            part, followed_by = tokens[start : start + _TOGETHER], tokens[start + 1 : start + _TOGETHER + 1]
            expected = _log_probabilities(first[1], part)
            for number, (_, model) in enumerate(models):
                found = _log_probabilities(model, part) if number else expected
                sums[number] += _losses(expected, found, followed_by)
    count = sum(len(tokens) for tokens in sequences)
    predicted = count - len(sequences)  # the first token of a text is not predicted
    return [
        FormatQuality(name, count, float(np.exp(loss / predicted)), divergence / count, agreeing / count)
        for (name, _), (loss, divergence, agreeing) in zip(models, sums.tolist(), strict=True)
    ]


def quantize_into(
    reader: WeightsReader, folder: Path, quantizer: str, activations: Activations, form: str = "q4f16_1"
) -> WeightsReader:
    """A directory made by `quantizer` in the format `form`, as a checkpoint."""
    from edge_router.compile.weights.package import PackageWindows, write_model

    write_model(
        reader,
        folder,
        config={},
        form=supported(form),
        quantizer=quantizer,
        activations=activations if quantizer in MEASURED else Activations(),
        windows=PackageWindows(2048, 512),
    )
    return open_weights(folder)


def _log_probabilities(model: Reference, tokens: Sequence[int]) -> Floats:
    """Of what follows each of the next tokens; shape (tokens, vocabulary)."""
    logits = model.logits(model.hidden(tokens))
    logits -= logits.max(-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    return logits


def _losses(expected: Floats, found: Floats, followed_by: Sequence[int]) -> tuple[float, float, float]:
    """Sums over the tokens: of the loss, of the divergence, and of how often the first choices agree."""
    loss = -float(found[np.arange(len(followed_by)), np.asarray(followed_by, np.intp)].sum())
    divergence = float(np.einsum("tv,tv->", np.exp(expected), expected - found))
    return loss, divergence, float((expected.argmax(-1) == found.argmax(-1)).sum())


def main(arguments: Sequence[str] | None = None) -> int:
    from edge_router.compile.weights.moments import measure, read_activations
    from edge_router.compile.weights.samples import token_sequences

    parser = argparse.ArgumentParser(
        prog="python -m edge_router.compile.weights.quality", description=__doc__
    )
    parser.add_argument("weights", type=Path, help="a .gguf or .safetensors file, or a folder")
    parser.add_argument(
        "--moments", type=Path, help="as edge_router.compile.weights.moments writes; else measured"
    )
    parser.add_argument("--quantizer", action="append", choices=tuple(QUANTIZERS), help="default: all")
    parser.add_argument("--quantization", default="q4f16_1", help="the format")
    parser.add_argument(
        "--kv-cache", choices=("float16", "int8"), action="append", help="instead of quantizers"
    )
    parser.add_argument(
        "--tokens", type=int, help="with --kv-cache: one text of so many, the calibration's first"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    reader = open_weights(options.weights)
    if options.kv_cache:
        sys.stdout.write(_report(_kept(reader, options.kv_cache, options.tokens), as_json=options.json))
        return 0
    wanted, activations = options.quantizer or QUANTIZERS, Activations()
    if options.moments:
        activations = read_activations(options.moments.read_bytes())
    elif WEIGHTED in wanted:
        activations = measure(reader, token_sequences(reader, "calibration"))
    with tempfile.TemporaryDirectory() as place:
        others = []
        for name in wanted:
            folder = Path(place) / name
            folder.mkdir()
            others.append((name, quantize_into(reader, folder, name, activations, options.quantization)))
        found = compare(reader, others, token_sequences(reader, "evaluation"))
        for _, opened in others:
            opened.close()
    sys.stdout.write(_report(found, as_json=options.json))
    return 0


def _kept(reader: WeightsReader, ways: Sequence[str], length: int | None) -> list[FormatQuality]:
    from edge_router.compile.weights.samples import token_sequences

    sequences = token_sequences(reader, "evaluation")
    if length is not None:
        before = token_sequences(reader, "calibration")
        sequences = [[token for tokens in (*before, *sequences) for token in tokens][-length:]]
    models = [(way, Reference(reader, kept=way)) for way in ways]
    return compare_models(("as they come", Reference(reader)), models, sequences)


def _report(found: Sequence[FormatQuality], *, as_json: bool) -> str:
    if as_json:
        return json.dumps([asdict(quality) for quality in found]) + "\n"
    lines = [f"{'quantizer':<14}{'perplexity':>12}{'KL':>10}{'top-1':>10}   over {found[0].tokens} tokens"]
    lines += [
        f"{row.quantizer:<14}{row.perplexity:>12.3f}{row.divergence:>10.4f}{row.agreement:>10.4f}"
        for row in found
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
