"""Fine-tune the encoder on the pool: every model's answers are a task of their own (multi-task learning).

The logit of "model m answers this prompt of subset s well" is a product of the prompt's factors with the
model's vector, plus its surface features, plus an intercept of m on s. The intercepts take what is particular
to a subset and are thrown away afterwards; a model's vector is a common one plus a part of its own, held
close to zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from edge_router.compile.training.embed import pad
from edge_router.compile.training.encoder import Encoder
from edge_router.compile.training.pool import LabelPool
from edge_router.compile.training.settings import FineTuning
from edge_router.types import Progress

_WARM_UP = 0.1  # of the steps
_BUCKET = 16  # batches that are sorted by length together, so that little is padded
_HEAD_RATE = 1e-3
_INTERCEPT_RATE = 2e-2


class TrainableHead(nn.Module):  # type: ignore[misc]
    """Embedding and surface features to one logit per model, without intercepts."""

    def __init__(self, hidden: int, features: int, models: int, rank: int) -> None:
        super().__init__()
        self.root = math.sqrt(hidden)  # numbers of an embedding of length 1 are this much smaller than 1
        self.projection = nn.Parameter(torch.randn(hidden, rank) / math.sqrt(hidden))
        self.common = nn.Parameter(torch.zeros(rank))
        self.own = nn.Parameter(torch.randn(models, rank) * 1e-3)
        self.surface = nn.Parameter(torch.zeros(features))
        self.own_surface = nn.Parameter(torch.zeros(models, features))

    def forward(self, embedding: torch.Tensor, surface: torch.Tensor) -> torch.Tensor:
        factors = embedding * self.root @ self.projection
        return factors @ (self.common + self.own).T + surface @ (self.surface + self.own_surface).T


def fine_tune(
    encoder: Encoder,
    rows: Sequence[list[int]],
    pool: LabelPool,
    surface: np.ndarray,
    settings: FineTuning,
    *,
    seed: int,
    progress: Progress,
) -> None:
    """Trains `encoder` in place, on the device where it is.

    The head that is trained with it is thrown away: one that is fitted afterwards transfers better. `rows`:
    token ids of every prompt; `surface` float [prompts, features], standardised.
    """
    torch.manual_seed(seed)
    device = encoder.device
    head = TrainableHead(encoder.shape.hidden, surface.shape[1], len(pool.models), settings.rank).to(device)
    subsets, subset = np.unique(pool.subsets, return_inverse=True)
    intercepts = nn.Parameter(_logits(pool, subset, len(subsets)).to(device))
    optimizer = torch.optim.AdamW(_parameters(encoder, head, intercepts, settings), weight_decay=0.0)
    order = _batches([len(row) for row in rows], settings, np.random.default_rng(seed))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(len(order)))
    labels = torch.tensor(pool.labels, device=device)
    features = torch.tensor(surface, dtype=torch.float32, device=device)
    encoder.train()
    with progress.step("fine-tune", total=len(order), unit="batches") as step:
        for batch in order:
            ids, mask = (part.to(device) for part in pad([rows[i] for i in batch]))
            with torch.autocast(device.type, torch.bfloat16):
                embedding = encoder(ids, mask)
            logits = head(embedding.float(), features[batch]) + intercepts[subset[batch]]
            loss = _loss(logits, labels[batch]) + settings.own_penalty * head.own.square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step.advance()
    encoder.eval()


def _loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy over the answers that there are; every prompt weighs the same."""
    known = torch.isfinite(labels)
    each = nn.functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    return ((each * known).sum(1) / known.sum(1).clamp(min=1)).mean()


def _logits(pool: LabelPool, subset: np.ndarray, count: int) -> torch.Tensor:
    """Where the intercepts begin: the logit of each model's mean on each subset, [subsets, models]."""
    start = torch.zeros(count, len(pool.models))
    for s in range(count):
        block = pool.labels[subset == s]
        known = np.isfinite(block)
        mean = (np.where(known, block, 0).sum(0) + 1) / (known.sum(0) + 2)
        start[s] = torch.tensor(np.log(mean / (1 - mean)))
    return start


def _parameters(
    encoder: Encoder, head: TrainableHead, intercepts: nn.Parameter, settings: FineTuning
) -> list[dict[str, object]]:
    groups: list[dict[str, object]] = [
        {"params": list(head.parameters()), "lr": _HEAD_RATE},
        {"params": [intercepts], "lr": _INTERCEPT_RATE},
    ]
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    layers = list(encoder.encoder["layer"])[::-1][: settings.trained_layers]
    for depth, layer in enumerate(layers):
        for parameter in layer.parameters():
            parameter.requires_grad_(True)
        groups.append({"params": list(layer.parameters()), "lr": settings.rate * settings.decay**depth})
    return groups


def _batches(lengths: Sequence[int], settings: FineTuning, rng: np.random.Generator) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for _ in range(settings.epochs):
        epoch: list[np.ndarray] = []
        order, span = rng.permutation(len(lengths)), settings.batch * _BUCKET
        for start in range(0, len(order), span):
            bucket = sorted(order[start : start + span], key=lengths.__getitem__)
            epoch += [np.array(bucket[i : i + settings.batch]) for i in range(0, len(bucket), settings.batch)]
        found += [epoch[i] for i in rng.permutation(len(epoch))]
    return found


def _schedule(steps: int) -> Callable[[int], float]:
    """Up in a line, down in a line."""
    warm = max(1, round(steps * _WARM_UP))
    return lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(steps - warm, 1)))
