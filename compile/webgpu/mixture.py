"""The parts of a mixture of experts for WebGPU, in place of those in `compile.graphs.parts`."""

# mypy: disable-error-code="misc"

from __future__ import annotations

from dataclasses import dataclass

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor

from edge_router.architectures.experts import ExpertSizes
from edge_router.compile.kernels.shapes import Routing
from edge_router.compile.webgpu.shaders import experts
from edge_router.compile.webgpu.shaders.matvec import Gate
from edge_router.compile.webgpu.tables import Part, Shaders, row_spans


@dataclass(frozen=True)
class Routes:
    """Which experts rows go to with which shares, and the tiles in which products take them."""

    routes: Tensor
    tiles: Tensor


class Router(nn.Module):
    """Ratings of experts, by a matrix that is not quantized."""

    def __init__(self, shaders: Shaders, inputs: int, count: int) -> None:
        super().__init__()
        self._shaders, self._inputs, self._count = shaders, inputs, count
        self.weight = nn.Parameter((count, inputs), "float32")

    def forward(self, x: Tensor) -> Tensor:
        shader = experts.rate(self._inputs, self._count)
        return self._shaders.call(shader, [x, self.weight], (x.shape[0], self._count))


def route(shaders: Shaders, ratings: Tensor, sizes: ExpertSizes) -> Routes:
    routing = Routing(sizes.count, sizes.chosen, sizes.shared_out)
    rows = ratings.shape[0]
    routes = shaders.call(experts.choose(routing), [ratings], (rows, 2 * sizes.chosen))
    tiled = shaders.call(experts.tiles(routing), [routes], (rows * sizes.chosen, experts.TILE_WORDS))
    return Routes(routes, tiled)


class Matrices(nn.Module):
    """All experts' matrices, in as many pieces as one binding needs."""

    def __init__(
        self, shaders: Shaders, sizes: ExpertSizes, inputs: int, outputs: int, gate: Gate | None
    ) -> None:
        super().__init__()
        self._shaders, self._inputs, self._outputs, self._gate = shaders, inputs, outputs, gate
        self._routing = Routing(sizes.count, sizes.chosen, sizes.shared_out)
        self._spans = row_spans(sizes.count, outputs * (inputs // 2))
        self.parts = nn.ModuleList(
            [Part(inputs, first * outputs, last * outputs) for first, last in self._spans]
        )

    def forward(self, routes: Routes, x: Tensor, add: Tensor | None = None) -> Tensor:
        rows, chosen = routes.routes.shape[0], self._routing.chosen
        width = self._outputs // 2 if self._gate else self._outputs
        found: Tensor | None = None
        for part, (first, last) in zip(self.parts, self._spans, strict=True):
            shader = experts.product(
                experts.Product(self._routing, self._inputs, width, first, last, self._gate)
            )
            given = [routes.tiles, routes.routes, x, part.q_weight, part.q_scale]
            if found is None:
                found = self._shaders.call(shader, given, (rows * chosen, width))
            else:
                found = self._shaders.call_into(shader, given, found)
        if self._gate:
            return found
        gathered = experts.gather(width, chosen, residual=add is not None)
        return self._shaders.call(gathered, [found, *([] if add is None else [add])], (rows, width))
