"""Reading weights: `open_weights(path)` finds the format by looking at what lies there."""

from __future__ import annotations

from pathlib import Path

from edge_router.compile.readers.base import TensorInfo, WeightsReader
from edge_router.errors import InvalidModel

__all__ = ["TensorInfo", "WeightsReader", "open_weights"]


def open_weights(path: Path) -> WeightsReader:
    """A reader of the checkpoint at `path`: a .gguf, .safetensors or .bin file, or a folder that holds one.

    A folder is an MLC directory if it has mlc-chat-config.json; else it is read as safetensors if it has any,
    else as pytorch_model*.bin, else as its only .gguf file. Raises `InvalidModel` (which says what was looked
    for and what is there), `WeightsCorrupt`, and `MissingExtra` for .bin files without torch.
    """
    if path.is_dir():
        if (path / "mlc-chat-config.json").is_file():
            return _mlc(path)
        if any(path.glob("*.safetensors")):
            return _safetensors(path)
        if any(path.glob("pytorch_model*.bin")):
            return _torch_bin(path)
        gguf = sorted(path.glob("*.gguf"))
        if len(gguf) == 1:
            return _gguf(gguf[0])
        if gguf:
            raise InvalidModel(path, f"holds {len(gguf)} .gguf files; name one: {_listing(gguf)}")
        raise InvalidModel(
            path,
            "holds neither *.safetensors nor pytorch_model*.bin nor *.gguf, but: "
            + _listing(sorted(path.iterdir())),
        )
    if not path.is_file():
        raise InvalidModel(path, "does not exist")
    if path.suffix == ".gguf":
        return _gguf(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".bin":
        return _torch_bin(path)
    held = path.suffix or "a file without a suffix"
    raise InvalidModel(path, f"{held} is neither .gguf nor .safetensors nor .bin")


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


def _listing(files: list[Path]) -> str:
    names = [file.name for file in files]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"
