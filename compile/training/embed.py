"""Run the torch encoder over many texts, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from edge_router.compile.training.encoder import Encoder
from edge_router.routing.routers.tokens import Cut, TextTokens
from edge_router.types import Progress

_BATCH = 32


def tokenize(tokenizer: Path, texts: Sequence[str], cut: Cut) -> list[list[int]]:
    from tokenizers import Tokenizer

    tokens = TextTokens(Tokenizer.from_file(str(tokenizer)), cut)
    return [tokens.ids(text) for text in texts]


def batches(lengths: Sequence[int], size: int = _BATCH) -> Iterator[list[int]]:
    """Indices, the shortest texts first."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def pad(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their mask, both int64 [rows, the longest]."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask


def embed(encoder: Encoder, rows: Sequence[Sequence[int]], progress: Progress) -> np.ndarray:
    """Token ids to float32 [rows, hidden]."""
    result = np.zeros((len(rows), encoder.shape.hidden), np.float32)
    encoder.eval()
    with torch.inference_mode(), progress.step("embed", total=len(rows), unit="prompts") as step:
        for batch in batches([len(row) for row in rows]):
            ids, mask = (part.to(encoder.device) for part in pad([rows[i] for i in batch]))
            result[batch] = encoder(ids, mask).cpu().numpy()
            step.advance(len(batch))
    return result
