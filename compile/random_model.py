"""A model with random weights: as large as a real one of its shape, and as slow; what it says is noise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from edge_router.compile.readers.base import Floats, TensorInfo
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.package import PackageWindows, ShardWriter, chat_config, write_model
from edge_router.compile.weights.parameters import count, parameters
from edge_router.compile.weights.quantize import supported

_SPREAD = np.float32(0.02)  # of the weights, as models begin their training
_NOISE = (1 << 24) + 1  # words: 64 MiB, and no multiple of any row, so that rows differ


class RandomReader:
    """A checkpoint of `config`'s shape. The tokenizer is that of an MLC directory."""

    generation: Mapping[str, object] = MappingProxyType({})
    doubts: Sequence[str] = ()

    def __init__(self, config: Mapping[str, object], tokenizer: Path) -> None:
        self.config = config
        self.source = tokenizer
        self.tensors: Mapping[str, TensorInfo] = {
            source: TensorInfo((rows, *parameter.columns), "F32")
            for parameter in parameters(config, "random weights")
            for source, rows in zip(parameter.sources, parameter.source_rows, strict=True)
        }

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        shape = self.tensors[name].shape
        count = (shape[0] if stop is None else stop) - start
        if len(shape) == 1:  # a norm
            return np.ones(count, np.float32)
        numbers = np.random.default_rng(start).standard_normal((count, *shape[1:]), np.float32)
        return numbers * _SPREAD

    def tokenizer_files(self) -> Mapping[str, bytes]:
        names = ("tokenizer.json", "tokenizer_config.json")
        return {name: (self.source / name).read_bytes() for name in names}

    def close(self) -> None:
        return None


def draw_model(folder: Path, config: Mapping[str, object], tokenizer: Path, windows: PackageWindows) -> None:
    """As `write_random_model`, but the codes themselves are drawn: seconds instead of minutes.

    All matrices are parts of the same noise, which a processor or a GPU reads as slowly as any.
    """
    reader, form = RandomReader(config, tokenizer), supported("q4f16_1")
    files = reader.tokenizer_files()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    chat = chat_config(config, form.name, files, config, windows)
    (folder / "mlc-chat-config.json").write_text(json.dumps(chat), encoding="utf-8")
    wanted = parameters(config, "random weights")
    noise = np.random.default_rng(0).integers(0, 1 << 32, _NOISE, np.uint32)
    with ShardWriter(folder, numbers=count(wanted)) as shards:
        for parameter in wanted:
            columns = parameter.shape[-1]
            if parameter.kind == "router":  # tokens go to experts of their own, not all to the same
                drawn = np.concatenate([reader.rows(source) for source in parameter.sources])
                shards.add(f"{parameter.name}.{parameter.word}", drawn.astype(form.dtype))
                continue
            if not form.quantizes(parameter.kind):
                shards.add(f"{parameter.name}.{parameter.word}", np.ones(parameter.shape, form.dtype))
                continue
            groups = form.groups(columns)
            words = np.resize(noise, (*parameter.shape[:-1], groups * form.words_per_group))
            shards.add(f"{parameter.name}.q_weight", words)
            scales = np.full((*parameter.shape[:-1], groups), _SPREAD / 4, form.dtype)
            shards.add(f"{parameter.name}.q_scale", scales)


def write_random_model(
    folder: Path, config: Mapping[str, object], tokenizer: Path, windows: PackageWindows
) -> None:
    """An MLC directory in q4f16_1. `config` has Hugging Face's keys; `tokenizer` is another MLC directory."""
    write_model(
        RandomReader(config, tokenizer),
        folder,
        config=config,
        form=supported("q4f16_1"),
        quantizer="signed",
        activations=Activations(),
        windows=windows,
    )
