"""A model of a card's shape with random weights, for speed where the weights themselves are not to be had."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edge_router.config.settings import Config
from edge_router.errors import InvalidModel
from edge_router.system.paths import Paths
from edge_router.types import Progress

if TYPE_CHECKING:
    from edge_router.compile.pipeline import CompiledModel

_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"


@contextmanager
def random_model(config: Config, paths: Paths, progress: Progress) -> Iterator[CompiledModel]:
    """The configured card's shape in q4f16_1, and its library, which stays; the weights go at the end.

    Raises `InvalidModel` for a card without numbers, and what compiling raises.
    """
    from edge_router.catalog import find_model
    from edge_router.compile.build_context import Workshop
    from edge_router.compile.make_library import LibraryStep
    from edge_router.compile.pipeline import BuildSettings, CompiledModel
    from edge_router.compile.random_model import draw_model
    from edge_router.compile.recipe import recipe
    from edge_router.compile.weights.package import PackageWindows
    from edge_router.compile.weights.ready import chat_config

    card = find_model(config.weak.model)
    if not card.config:
        raise InvalidModel(card.name, "its card states no shape")
    wanted = recipe(card, BuildSettings.from_config(config))
    paths.artifacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.artifacts, prefix="random-") as name:
        folder = Path(name)
        write_tokenizer(folder, int(str(card.config["vocab_size"])))
        windows = PackageWindows(wanted.context_window_size, wanted.prefill_chunk_size)
        with progress.step("draw weights"):
            draw_model(folder, card.config, folder, windows)
        chat = wanted.applied(chat_config(folder))
        shop = Workshop(card.name, paths, progress, build=True, offline=True)
        library, key = LibraryStep(wanted, shop, chat, folder).make()
        yield CompiledModel(card, folder, library, chat, "random", key)


def write_tokenizer(folder: Path, tokens: int = 0) -> None:
    """One that takes each byte for a token; up to `tokens` there are others that no text has."""
    from tokenizers.pre_tokenizers import ByteLevel

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    alphabet = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    alphabet |= {f"<{number}>": number for number in range(len(alphabet), tokens)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": alphabet, "merges": []},
    }
    described = {"chat_template": _TEMPLATE}
    for name, content in (("tokenizer.json", tokenizer), ("tokenizer_config.json", described)):
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
