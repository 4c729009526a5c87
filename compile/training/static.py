"""The encoder without layers: one vector per token, and a text's vector is the mean of its tokens'.

A token's vector is what enters the base encoder's first layer at a middling position, reduced to the few
directions in which the pool's texts differ most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_router.errors import InvalidModel

_POSITIONS = 64  # whose mean stands for every position: most tokens of most prompts are there


def token_vectors(folder: Path) -> np.ndarray:
    """float32 [vocabulary, hidden], from a BERT checkpoint. Raises `InvalidModel`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = folder / "model.safetensors"
    try:
        return _normalised(load_file(file))
    except (OSError, SafetensorError) as error:
        raise InvalidModel(file, f"cannot be read: {error}") from error
    except KeyError as error:
        raise InvalidModel(file, f"no tensor {error}") from error


def _normalised(tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    x = tensors["embeddings.word_embeddings.weight"].astype(np.float32)
    x = x + tensors["embeddings.position_embeddings.weight"][:_POSITIONS].mean(axis=0)
    x = x + tensors["embeddings.token_type_embeddings.weight"][0]
    x = (x - x.mean(axis=1, keepdims=True)) / (x.std(axis=1, keepdims=True) + 1e-6)
    weight, bias = tensors["embeddings.LayerNorm.weight"], tensors["embeddings.LayerNorm.bias"]
    return np.asarray(x * weight + bias, np.float32)


def reduce(vectors: np.ndarray, rows: Sequence[Sequence[int]], dimensions: int) -> np.ndarray:
    """The table, float32 [vocabulary, dimensions]: the principal directions of the texts `rows`."""
    means = pooled(vectors, rows)
    centre = means.mean(axis=0)
    _, _, directions = np.linalg.svd(means - centre, full_matrices=False)
    return np.asarray((vectors - centre) @ directions[:dimensions].T, np.float32)


def embed(table: np.ndarray, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """As the graph does: [texts, dimensions], each of length 1."""
    means = pooled(table, rows)
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12))


def pooled(table: np.ndarray, rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array([table[list(row)].mean(axis=0) for row in rows], np.float32)
