"""Whether weights that lie here can be compiled, told by their headers: what `plan` asks beside memory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_router.catalog.configs import held
from edge_router.compile.readers import open_weights
from edge_router.compile.weights.package import PackageWindows, describe_model
from edge_router.compile.weights.quantize import supported
from edge_router.errors import InvalidModel, UnknownName


def check_headers(path: Path, config: Mapping[str, object], quantization: str) -> None:
    """Raises what building a model of `config` from `path` would raise before the first weight is read.

    A folder in which only the descriptions lie can be planned, and so can what is ready or torch's own.
    """
    try:
        form = held(path).format
    except InvalidModel:
        if (path / "config.json").is_file():
            return
        raise
    if form == "torch":  # whose headers are read by torch, which planning does not need
        return
    stored = supported("q0f16")  # in place of a format that is written elsewhere
    with suppress(UnknownName):
        stored = supported(quantization)
    reader = open_weights(path)
    try:
        if form != "mlc":
            with TemporaryDirectory() as folder:
                windows = PackageWindows(128, 32)  # which say nothing of the weights
                describe_model(reader, Path(folder), config=config, form=stored, windows=windows)
    finally:
        reader.close()
