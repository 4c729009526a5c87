"""What a folder as transformers saves it holds beside its weights, and which of its files hold those."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from edge_router.architectures import architecture
from edge_router.catalog.configs import plain_config
from edge_router.compile.readers.base import missing_tensor, read_json
from edge_router.errors import InvalidModel, UnsupportedArchitecture, WeightsCorrupt
from edge_router.prompts.files import CONFIG_FILE, read_object, template_of

_TOKENIZER = ("tokenizer.json", CONFIG_FILE)


class Folder:
    """`source` is the folder, or the only file of weights in it."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._folder = source if source.is_dir() else source.parent

    @cached_property
    def config(self) -> Mapping[str, object]:
        return plain_config(read_json(self._folder / "config.json"))

    def llama_names(self, held: Iterable[str]) -> dict[str, str]:
        """The tensors' names in Llama's checkpoints, each with its name here."""
        try:
            described = architecture(str(self.config.get("model_type")))
        except (InvalidModel, UnsupportedArchitecture):  # which is told where it must be known
            return {name: name for name in held}
        ours = (name for name in held if not name.startswith(described.skipped))
        return {described.checkpoint_name(name): name for name in ours}

    @cached_property
    def generation(self) -> Mapping[str, object]:
        path = self._folder / "generation_config.json"
        return read_json(path) if path.is_file() else {}

    @property
    def doubts(self) -> Sequence[str]:
        return ()

    def tokenizer_files(self) -> Mapping[str, bytes]:
        return folder_tokenizer(self._folder)


def folder_tokenizer(folder: Path) -> Mapping[str, bytes]:
    """tokenizer.json and tokenizer_config.json, the latter with the chat template, wherever that lies.

    Raises `InvalidModel` for what is missing or no JSON.
    """
    found = {name: folder / name for name in _TOKENIZER}
    absent = [name for name, path in found.items() if not path.is_file()]
    if absent:
        raise InvalidModel(folder, f"{' and '.join(absent)} missing; the tokenizer needs both")
    files = {name: path.read_bytes() for name, path in found.items()}
    config, template = read_object(found[CONFIG_FILE]), template_of(folder)
    if template is not None and template != config.get("chat_template"):
        config = {**config, "chat_template": template}
        files[CONFIG_FILE] = json.dumps(config, ensure_ascii=False, indent=1).encode()
    return files


def without_one(shape: tuple[int, ...]) -> tuple[int, ...]:
    """torch's convolutions have an axis of one between channels and taps."""
    return (shape[0], shape[2]) if len(shape) == 3 and shape[1] == 1 else shape


def weight_files(source: Path, pattern: str, index: str) -> tuple[list[Path], list[str]]:
    """The files that hold the weights, and the tensors that they must hold: the index's, if there is one.

    Raises `InvalidModel` for a shard that is missing, `WeightsCorrupt` for an index that is none.
    """
    if source.is_file():
        return [source], []
    listing = source / index
    if not listing.is_file():
        files = sorted(source.glob(pattern))
        if len(files) != 1:
            names = ", ".join(file.name for file in files)
            raise InvalidModel(source, f"{len(files)} files of weights ({names}) and no {index}")
        return files, []
    wanted = read_json(listing).get("weight_map")
    named = isinstance(wanted, dict) and all(isinstance(file, str) and file for file in wanted.values())
    if not isinstance(wanted, dict) or not wanted or not named:
        raise WeightsCorrupt(listing, "a weight_map from tensors to files", repr(wanted)[:80])
    shards = [source / str(name) for name in sorted(set(wanted.values()))]
    for shard in shards:
        if shard.parent != source or not shard.is_file():
            raise InvalidModel(source, f"{shard.name}, which {index} names, is missing")
    return shards, list(wanted)


def check_complete(source: Path, wanted: Iterable[str], held: Mapping[str, object]) -> None:
    """Raises `InvalidModel` with the first tensor that the index names and no file holds."""
    for name in wanted:
        if name not in held:
            raise missing_tensor(source, name, held)
