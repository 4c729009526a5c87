"""Which models a caller may ask for and be answered by. Pure: every case is a row of a table in the tests.

`models` names them: `weak` (or the weak model's own name), `strong` or some of its models, endpoints and
tags, `auto`, a router with its threshold, a model for embeddings. Nothing named: everything.

Who has `weak` may ask for `auto`, too, and is answered by what of both sides is named. Who has `auto` itself
is answered by either side, as the router's score says, and may not name the strong model.
"""

from __future__ import annotations

from collections.abc import Collection

from edge_router.records import dataclass
from edge_router.types import LATEST

AUTO, WEAK, STRONG, ROUTED = "auto", "weak", "strong", "router-"


@dataclass(frozen=True, slots=True)
class Allowed:
    """`weak` and `strong` are the names that either model has beside these two words."""

    models: tuple[str, ...] = ()
    weak: Collection[str] = ()
    strong: Collection[str] = ()

    @property
    def stays(self) -> bool:
        """Whether nothing but the weak model may answer."""
        if not self.models:
            return False
        routed = any(name.startswith(ROUTED) for name in self.models)
        return not (self._has(AUTO) or self._has(STRONG) or routed or self.among)

    @property
    def among(self) -> tuple[str, ...]:
        """The only strong models, endpoints or tags that may answer; () for any of them."""
        return () if self._has(STRONG) else tuple(name for name in self.models if name in self.strong)

    def permits(self, name: str) -> bool:
        """Whether `name` may stand in a request's `model`."""
        if not self.models or self._has(name):
            return True
        if name.endswith(LATEST):
            return self.permits(name.removesuffix(LATEST))
        has_weak = self._has(WEAK) or any(self._has(own) for own in self.weak)
        if name in (AUTO, WEAK) or name in self.weak:
            return has_weak
        if name.startswith(ROUTED):
            return has_weak and self._has(STRONG)
        return name in self.strong and self._has(STRONG)

    def _has(self, name: str) -> bool:
        return name in self.models
