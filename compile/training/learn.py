"""What each kind of router learns from the pool, and the graph that it becomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_router.catalog import RouterCard
from edge_router.compile.router.graph import Arrays, GraphSpec, build_router
from edge_router.compile.router.ranking import Ranking, build_ranking
from edge_router.compile.training import head as heads
from edge_router.compile.training import static
from edge_router.compile.training.factors import centred
from edge_router.compile.training.pool import LabelPool
from edge_router.compile.training.scale import fit_scale, win_rates
from edge_router.compile.training.settings import TrainSettings
from edge_router.errors import InvalidRouter
from edge_router.routing.routers.onnx import OnnxRouter
from edge_router.types import Progress, SilentProgress

_ALIKE = 0.95  # the cosine of an embedding in int8 and in float32; another encoder's is far below
_SAMPLE = 8  # prompts that are looked at


def learn(settings: TrainSettings, pool: LabelPool, base: Path, file: Path, progress: Progress) -> None:
    """Write the graph of a router whose encoder, or the lower part of it, comes from the folder `base`."""
    from edge_router.compile.training.embed import tokenize
    from edge_router.compile.training.encoder import load_shape

    rows = tokenize(base / "tokenizer.json", pool.prompts, settings.cut)
    features, scaling = heads.surface_of(pool, settings.surface)
    if settings.kind == "static":
        table = static.reduce(static.token_vectors(base), rows, settings.dimensions)
        arrays: Arrays = {"table": table}
        embeddings = static.embed(table, rows)
    else:
        fitting = np.flatnonzero(~pool.validation)
        arrays, embeddings = encode(settings, pool, base, rows, features, fitting, progress)
    factors = heads.fit(pool, embeddings, features, settings.head)
    head = heads.scaled_head(factors, pool, embeddings, features, settings.surface, scaling)
    shape, layers = load_shape(base), len(settings.chosen_layers)
    below = layers - settings.fine_tuning.trained_layers if settings.kind == "bert" else 0
    spec = GraphSpec(layers, shape.heads, shape.epsilon, settings.cut, below)
    build_router(arrays, head, spec, file, settings.precision)


def check_encoder(settings: TrainSettings, pool: LabelPool, base: Path, encoder: RouterCard) -> None:
    """That `encoder` runs the layers that a `bert` goes on from. Raises `InvalidRouter`."""
    from edge_router.compile.training.embed import embed, tokenize
    from edge_router.compile.training.encoder import load_encoder

    lower = settings.chosen_layers[: -settings.fine_tuning.trained_layers]
    prompts = pool.prompts[:_SAMPLE]
    rows = tokenize(base / "tokenizer.json", prompts, settings.cut)
    wanted = embed(load_encoder(base, lower), rows, SilentProgress())
    found = OnnxRouter(encoder).embed_texts(prompts)
    if found.shape != wanted.shape or float(np.einsum("ij,ij->i", found, wanted).min()) < _ALIKE:
        raise InvalidRouter(
            str(encoder.directory), f"its encoder is not the layers {lower} of {settings.base}"
        )


def learn_ranking(
    settings: TrainSettings, pool: LabelPool, encoder: RouterCard, file: Path, progress: Progress
) -> None:
    """Write the graph of a ranking: the references are the pool's prompts, as that router embeds them.

    Outcomes are centred by subset: which of them a query resembles must not be what decides. The graph holds
    a few int8 numbers of each prompt, and no prompt.
    """
    embeddings = run(OnnxRouter(encoder), pool, progress)
    held = pool.validation
    ranking = fit_ranking(pool.take(~held), embeddings[~held], settings.dimensions)
    raw = ranking.strength(embeddings[held])
    scale = fit_scale(raw, win_rates(pool.take(held)), pool.sources[held])
    ranking = replace(ranking, slope=scale.slope, intercept=scale.intercept)
    build_ranking(ranking, settings.cut, file, settings.precision)


def fit_ranking(pool: LabelPool, embeddings: np.ndarray, dimensions: int) -> Ranking:
    """The references: every prompt that a weak and a strong model answered."""
    wins = win_rates(pool, ties=0.5)
    kept = np.flatnonzero(np.isfinite(wins))
    _, _, directions = np.linalg.svd(embeddings[kept], full_matrices=False)
    projection = directions[:dimensions].T
    references = embeddings[kept] @ projection
    return Ranking(
        projection=projection,
        references=references / np.linalg.norm(references, axis=1, keepdims=True),
        wins=centred(wins[kept, None], pool.subsets[kept])[:, 0] + wins[kept].mean(),
    )


def run(router: OnnxRouter, pool: LabelPool, progress: Progress) -> np.ndarray:
    """The pool's embeddings as that router's own graph makes them."""
    found = []
    with progress.step("embed", total=len(pool), unit="prompts") as step:
        for prompt in pool.prompts:
            found.append(router.embed_texts([prompt])[0])
            step.advance()
    return np.array(found)


def encode(
    settings: TrainSettings,
    pool: LabelPool,
    base: Path,
    rows: list[list[int]],
    features: np.ndarray,
    fitting: np.ndarray,
    progress: Progress,
) -> tuple[Arrays, np.ndarray]:
    """The encoder's parameters and the pool's embeddings; a `bert`'s upper layers are fine-tuned on the rows
    `fitting`.
    """
    import torch

    from edge_router.compile.training.embed import embed
    from edge_router.compile.training.encoder import best_device, load_encoder

    torch.set_num_threads(settings.threads)
    encoder = load_encoder(base, settings.chosen_layers).to(best_device())
    if settings.kind == "bert":
        from edge_router.compile.training.finetune import fine_tune

        fine_tune(
            encoder,
            [rows[i] for i in fitting],
            pool.take(fitting),
            features[fitting],
            settings.fine_tuning,
            seed=settings.seed,
            progress=progress,
        )
    return encoder.arrays(), embed(encoder, rows, progress)
