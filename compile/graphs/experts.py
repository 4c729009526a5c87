"""An MLP of many experts: a router rates them, each token goes through a few, whose results are summed."""
# mypy: disable-error-code="misc"

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor

from edge_router.architectures.experts import Experts, ExpertSizes


class Mixture(nn.Module):
    """Its parts have MLC's names."""

    def __init__(self, described: Experts, sizes: ExpertSizes, hidden: int, gate: Any, parts: Any) -> None:
        super().__init__()
        self._described, self._sizes, self._parts = described, sizes, parts
        setattr(self, described.router, parts.router(hidden, sizes.count))
        setattr(self, described.gate_up, parts.grouped(sizes, hidden, 2 * sizes.width, gate=gate))
        setattr(self, described.down, parts.grouped(sizes, sizes.width, hidden))

    def forward(self, x: Tensor, *residual: Tensor) -> Tensor:
        described = self._described
        routes = self._parts.route(getattr(self, described.router)(x), self._sizes)
        inner = getattr(self, described.gate_up)(routes, x)
        return getattr(self, described.down)(routes, inner, *residual)
