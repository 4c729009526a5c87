"""Reading weights: `open_weights(path)` finds the format by looking at what lies there."""

from __future__ import annotations

from pathlib import Path

from edge_router.catalog.configs import held
from edge_router.compile.readers.base import TensorInfo, WeightsReader

__all__ = ["TensorInfo", "WeightsReader", "open_weights"]


def open_weights(path: Path) -> WeightsReader:
    """A reader of the checkpoint at `path`: a .gguf, .safetensors or .bin file, or a folder that holds one.

    `catalog.configs.held` says as what a folder is read. Raises `InvalidModel` (which says what was looked
    for and what is there), `WeightsCorrupt`, and `MissingExtra` for .bin files without torch.
    """
    from edge_router.compile.readers.stacked import taken_apart

    found = held(path)
    openers = {"mlc": _mlc, "safetensors": _safetensors, "torch": _torch_bin, "gguf": _gguf}
    return taken_apart(openers[found.format](found.path))


def _gguf(path: Path) -> WeightsReader:
    from edge_router.compile.readers.gguf import GgufReader

    return GgufReader(path)


def _safetensors(path: Path) -> WeightsReader:
    from edge_router.compile.readers.safetensors import SafetensorsReader

    return SafetensorsReader(path)


def _torch_bin(path: Path) -> WeightsReader:
    from edge_router.compile.readers.torch_bin import TorchBinReader

    return TorchBinReader(path)


def _mlc(path: Path) -> WeightsReader:
    from edge_router.compile.readers.mlc import MlcReader

    return MlcReader(path)
