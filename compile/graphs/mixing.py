"""What stands in attention's place in some layers, as `architectures.mixers` describes it, and its states."""
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor

from edge_router.architectures.mixers import Mixer, MixerSizes, State
from edge_router.compile.graphs.parts import heads_of
from edge_router.compile.kernels.base import StateKernels
from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.compile.graphs.config import DecoderConfig
    from edge_router.compile.graphs.decoder import Design
    from edge_router.compile.graphs.parts import Parts

STATE = "float32"


@dataclass(frozen=True, slots=True)
class KeptStates:
    """The states of one kind of layers: `name` and shape, and how many layers have it."""

    name: str
    shape: tuple[int, ...]
    layers: int

    @classmethod
    def of(cls, mixer: Mixer, state: State, layers: int) -> KeptStates:
        return cls(f"{mixer.name}_{state.name}", state.shape, layers)

    def described(self) -> dict[str, object]:
        """What the library says of them: the engine allocates [layers, slots, *shape]."""
        return {"name": self.name, "shape": list(self.shape), "layers": self.layers}


class StateRows:
    """A function's arguments: states [layers, slots, ...], and each row's slots before and behind it."""

    def __init__(self, arrays: Mapping[str, Tensor], sources: Tensor, saves: Tensor) -> None:
        self.arrays, self.sources, self.saves = arrays, sources, saves


class _Vectors(nn.Module):
    """Parameters that are not quantized, under one name."""


class Mixing(nn.Module):
    """In the place of `Attention`, with its two methods; a mixer's own class says `mix` alone.

    Parameters have the names and shapes of `MixerSizes`.
    """

    def __init__(self, design: Design, parts: Parts, layer: int, mixer: Mixer) -> None:
        super().__init__()
        self.kernels = state_kernels(parts)
        self.design, self.parts, self.layer, self.mixer = design, parts, layer, mixer
        sizes = design.mixer_sizes[mixer.kind]
        hidden = design.config.hidden_size
        setattr(self, mixer.inputs, parts.linear(hidden, sum(sizes.inputs.values())))
        setattr(self, mixer.out, parts.linear(sizes.width, hidden))
        for name, shape in sizes.vectors.items():
            stem, _, word = name.rpartition(".")
            if stem and not hasattr(self, stem):
                setattr(self, stem, _Vectors())
            setattr(getattr(self, stem) if stem else self, word, nn.Parameter(shape, parts.stored))

    @property
    def sizes(self) -> MixerSizes:
        return self.design.mixer_sizes[self.mixer.kind]

    def forward(self, x: Tensor, cache: Any, layer: int) -> Tensor:
        """What `project` is to be multiplied with."""
        return self.mix(getattr(self, self.mixer.inputs)(x), cache.states, layer)

    def mix(self, projected: Tensor, states: StateRows, layer: int) -> Tensor:
        """[rows, inputs] to [rows, width]; `layer` counts those of its kind."""
        raise NotImplementedError

    def project(self, mixed: Tensor, *residual: Tensor) -> Tensor:
        return getattr(self, self.mixer.out)(mixed, *residual)

    def states(self, states: StateRows) -> list[Tensor]:
        """The arrays of its states, in the order of `MixerSizes`, then from and to where rows go."""
        arrays = [states.arrays[f"{self.mixer.name}_{state.name}"] for state in self.sizes.states]
        return [*arrays, states.sources, states.saves]


def mixing(design: Design, parts: Parts, layer: int, mixer: Mixer) -> Mixing:
    """The mixer's own class, made for a layer."""
    module, _, name = mixer.graph.partition(":")
    made: Mixing = getattr(import_module(module), name)(design, parts, layer, mixer)
    return made


class ShortConvolution(Mixing):
    """LFM2's."""

    def mix(self, projected: Tensor, states: StateRows, layer: int) -> Tensor:
        channels, taps = self.sizes.vectors["conv.weight"]
        stored = self.parts.stored
        return self.parts.call(
            ("short_convolution", channels, taps),
            "short_convolution",
            lambda: self.kernels.short_convolution(channels, taps, stored),
            [projected, self.conv.weight, *self.states(states)],
            Tensor.placeholder((projected.shape[0], channels), "float32"),
            number=layer,
        )


def gated_head_norms(parts: Parts, config: DecoderConfig) -> Callable[[Tensor, Any, Any], Tensor]:
    """As `Parts.head_norms`, of queries that have their gates beside them, which are left out."""
    heads, epsilon, kernels = heads_of(config, parts.stored), config.rms_norm_eps, state_kernels(parts)

    def normalised(qkv: Tensor, query: Any, key: Any) -> Tensor:
        return parts.call(
            ("gated_head_norm", heads, epsilon),
            "gated_head_norm",
            lambda: kernels.gated_head_norm(heads, epsilon),
            [qkv, query.weight, key.weight],
            Tensor.placeholder((qkv.shape[0], (heads.query + 2 * heads.key_value) * heads.size), heads.dtype),
        )

    return normalised


def gated_output(parts: Parts, config: DecoderConfig, attended: Tensor, qkv: Tensor) -> Tensor:
    """What attention gives, by the gates that lie beside the queries."""
    heads, kernels = heads_of(config, parts.stored), state_kernels(parts)
    return parts.call(
        ("gated_output", heads),
        "gated_output",
        lambda: kernels.gated_output(heads),
        [attended, qkv],
        Tensor.placeholder(attended.shape, STATE),
    )


def state_kernels(parts: Parts) -> StateKernels:
    """Those of a target that `compile.targets.check_layers` has let pass."""
    assert isinstance(parts.kernels, StateKernels)
    return parts.kernels
