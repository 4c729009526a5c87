"""A router's ONNX file: opening it in onnxruntime, and what it says of itself.

Most graphs begin with token ids. One that begins with what another router's encoder has made of them
(`hidden`, a vector per token, or `embedding`, one of the whole text) is a second stage: its card names that
router as its `encoder`, and the encoder's weights ship once.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from edge_router.errors import InvalidRouter, ProviderUnavailable
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.routing.routers.providers import CPU, Provider
from edge_router.routing.routers.text import SURFACE_NAMES
from edge_router.routing.routers.tokens import Cut
from edge_router.system.telemetry import load_onnxruntime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

METADATA_KEY = "edge_router.router"  # written by compile/router/graph.py
FORMAT = 1
IDS, MASK, SURFACE = "input_ids", "attention_mask", "surface"
STATES = ("hidden", "embedding")  # what an encoder gives to a second stage
_TOKENS = {IDS: "tensor(int64)", MASK: "tensor(int64)"}


@dataclass(frozen=True, slots=True)
class Described:
    """`surface`: names of the features it is fed. `cut`: None where the file does not say."""

    surface: tuple[str, ...] = ()
    cut: Cut | None = None


def session_options(threads: int, provider: Provider) -> SessionOptions:
    """Raises `ProviderUnavailable` or `MissingExtra` for a provider that is not here."""
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors: that `surface` may be left out is meant, not a warning
    provider.attach(options)
    return options


def open_graph(file: Traversable | Path, options: SessionOptions, provider: Provider) -> InferenceSession:
    """Raises `InvalidRouter`, and for another provider than the CPU also `ProviderUnavailable`."""
    onnxruntime = load_onnxruntime()
    providers = [provider.execution] if provider.built_in else None  # None: those in the options
    try:
        model = str(file) if isinstance(file, Path) else file.read_bytes()
        # Without enable_fallback=0 it prints that a provider failed, and runs on another one.
        session = onnxruntime.InferenceSession(model, options, providers, enable_fallback=0)
    except OSError as error:
        raise InvalidRouter(str(file), f"cannot be read: {error.strerror}") from error
    except Exception as error:  # onnxruntime has a dozen classes for it, with no common base
        if provider.name != CPU:
            raise ProviderUnavailable(provider.name, f"it does not start: {_brief(error)}") from error
        raise InvalidRouter(str(file), f"onnxruntime cannot load it: {error}") from error
    running = session.get_providers()[0]
    if running != provider.execution:
        raise ProviderUnavailable(provider.name, f"onnxruntime took {running} instead")
    return session


def describe(session: InferenceSession, where: str) -> Described:
    """What the file's metadata says. Raises `InvalidRouter` for what cannot be followed."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        return Described()
    try:
        settings = strict_json.parse_object(text)
        surface, formed = [str(name) for name in settings["surface"]], settings["format"]
        longest, tail = settings["max_tokens"], settings["tail_tokens"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRouter(where, f"its metadata {METADATA_KEY!r} cannot be read: {error!r}") from error
    if formed != FORMAT:
        raise InvalidRouter(where, f"it has format {formed}, this version reads format {FORMAT}")
    unknown = sorted(set(surface) - set(SURFACE_NAMES))
    if unknown:
        raise InvalidRouter(where, f"it asks for the surface feature {unknown[0]!r}, which does not exist")
    if not (isinstance(longest, int) and isinstance(tail, int)) or not 0 <= tail <= longest - 2:
        raise InvalidRouter(where, f"it reads {longest} tokens, {tail} of them from the end")
    return Described(tuple(surface), Cut(longest, tail, bool(settings.get("without_options", False))))


def check_tokens(session: InferenceSession, where: str) -> None:
    """That it begins with token ids. Raises `InvalidRouter`, which names its inputs."""
    inputs = described_inputs(session)
    if inputs != _TOKENS:
        wanted = "a router's are input_ids and attention_mask, int64"
        raise InvalidRouter(where, f"its inputs are {_listed(inputs)}; {wanted}")


def state_of(session: InferenceSession, encoder: InferenceSession, where: str) -> tuple[str, tuple[str, ...]]:
    """Which of the encoder's outputs this second stage begins with, and what else it may be fed.

    Raises `InvalidRouter`.
    """
    inputs, given = described_inputs(session), outputs(encoder)
    for state in STATES:
        others = set(inputs) - {state}
        if inputs.get(state, "") == given.get(state) and others <= {MASK}:
            return state, (*others, SURFACE)
    wanted = " or ".join(state for state in STATES if state in given)
    raise InvalidRouter(where, f"its inputs are {_listed(inputs)}; its encoder gives {wanted}, float32")


def check_score(session: InferenceSession, where: str, *, has_surface: bool) -> None:
    """Raises `InvalidRouter` for a graph without a score, or without the input that it says it has."""
    found = outputs(session)
    if found.get("score") != "tensor(float)":
        raise InvalidRouter(where, f"its outputs are {', '.join(found)}; a router's is score, float32")
    if has_surface and SURFACE not in {value.name for value in session.get_overridable_initializers()}:
        raise InvalidRouter(where, "it names surface features but has no input 'surface'")


def _brief(error: Exception) -> str:
    """What onnxruntime says, without its file names and its own checks, which come first."""
    return str(error).rpartition("was false. ")[2].rpartition(" : ")[2]


def outputs(session: InferenceSession) -> dict[str, str]:
    """Name -> type."""
    return {value.name: value.type for value in session.get_outputs()}


def described_inputs(session: InferenceSession) -> dict[str, str]:
    """Name -> type."""
    return {value.name: value.type for value in session.get_inputs()}


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in values.items())
