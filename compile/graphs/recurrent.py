"""Layers with a recurrent state: the gated delta rule of Qwen 3.5, and Mamba 2."""
# mypy: disable-error-code="misc"

from __future__ import annotations

from tvm.relax.frontend.nn import Tensor

from edge_router.compile.graphs.mixing import STATE, Mixing, StateRows
from edge_router.compile.kernels.shapes import Convolved, GatedNorm, Recurrence


class Recurrent(Mixing):
    """A convolution, a recurrent state, a gated norm, in this order: each a kernel."""

    def convolve(
        self, x: Tensor, shape: Convolved, vectors: list[Tensor], states: StateRows, layer: int
    ) -> Tensor:
        tail, _, *rows = self.states(states)
        return self.parts.call(
            shape,
            "convolve",
            lambda: self.kernels.convolve(shape),
            [x, *vectors, tail, *rows],
            Tensor.placeholder((x.shape[0], shape.channels), STATE),
            number=layer,
        )

    def recur(
        self,
        x: Tensor,
        convolved: Tensor,
        shape: Recurrence,
        vectors: list[Tensor],
        states: StateRows,
        layer: int,
    ) -> Tensor:
        _, memory, *rows = self.states(states)
        return self.parts.call(
            shape,
            "recurrence",
            lambda: self.kernels.recurrence(shape),
            [x, convolved, *vectors, memory, *rows],
            Tensor.placeholder((x.shape[0], shape.heads * shape.value_size), STATE),
            number=layer,
        )

    def normalised(self, found: Tensor, x: Tensor, shape: GatedNorm, weight: Tensor) -> Tensor:
        return self.parts.call(
            shape,
            "gated_norm",
            lambda: self.kernels.gated_norm(shape),
            [found, x, weight],
            Tensor.placeholder(found.shape, STATE),
        )


class GatedDeltaNet(Recurrent):
    """Qwen 3.5's: queries, keys and values by the convolution, beside them gate, rate and step."""

    def mix(self, projected: Tensor, states: StateRows, layer: int) -> Tensor:
        sizes, dtype = self.sizes, self.parts.stored
        channels, taps = sizes.vectors["conv1d.weight"]
        heads, key_size, value_size = sizes.states[1].shape
        width, inner = sum(sizes.inputs.values()), heads * value_size
        keys = (channels - inner) // 2
        form = Convolved(width, channels, taps, dtype)
        convolved = self.convolve(projected, form, [self.conv1d.weight], states, layer)
        shape = Recurrence(
            heads, keys // key_size, key_size, value_size, channels, query=0, key=keys, value=2 * keys,
            width=width, step=channels + inner + heads, rate=channels + inner, dtype=dtype, delta=True,
        )  # fmt: skip
        found = self.recur(projected, convolved, shape, [self.A_log, self.dt_bias], states, layer)
        epsilon = self.design.config.rms_norm_eps
        norm = GatedNorm(heads, value_size, width, channels, epsilon, dtype)
        return self.normalised(found, projected, norm, self.norm.weight)


class Mamba2(Recurrent):
    """Values, keys and queries by the convolution; the gate comes first, the steps last."""

    def mix(self, projected: Tensor, states: StateRows, layer: int) -> Tensor:
        sizes, dtype = self.sizes, self.parts.stored
        channels, taps = sizes.vectors["conv1d.weight"]
        heads, state, size = sizes.states[1].shape
        width, inner = sum(sizes.inputs.values()), heads * size
        keys = (channels - inner) // 2
        form = Convolved(width, channels, taps, dtype, first=inner, bias=True)
        taken = [self.conv1d.weight, self.conv1d.bias]
        convolved = self.convolve(projected, form, taken, states, layer)
        shape = Recurrence(
            heads, keys // state, state, size, channels, query=inner + keys, key=inner, value=0,
            width=width, step=inner + channels, dtype=dtype,
        )  # fmt: skip
        vectors = [self.A_log, self.dt_bias, self.D]
        found = self.recur(projected, convolved, shape, vectors, states, layer)
        groups, epsilon = keys // state, self.design.config.rms_norm_eps
        norm = GatedNorm(groups, inner // groups, width, 0, epsilon, dtype, before=True, whole=True)
        return self.normalised(found, projected, norm, self.norm.weight)
