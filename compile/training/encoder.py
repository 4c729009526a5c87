"""The encoder that is fine-tuned: BERT's architecture in torch, parameters named as in its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edge_router.errors import InvalidModel
from edge_router.parsing import strict_json
from edge_router.records import dataclass

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class EncoderShape:
    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    epsilon: float


class SelfAttention(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query = nn.Linear(shape.hidden, shape.hidden)
        self.key = nn.Linear(shape.hidden, shape.hidden)
        self.value = nn.Linear(shape.hidden, shape.hidden)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        batch, length, hidden = x.shape

        def split(y: torch.Tensor) -> torch.Tensor:
            return y.view(batch, length, self.heads, hidden // self.heads).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(hidden // self.heads) + bias, dim=-1)
        return (weights @ v).transpose(1, 2).reshape(batch, length, hidden)


class Output(nn.Module):  # type: ignore[misc]
    """Projection, then the residual's normalisation."""

    def __init__(self, width: int, shape: EncoderShape) -> None:
        super().__init__()
        self.dense = nn.Linear(width, shape.hidden)
        self.LayerNorm = nn.LayerNorm(shape.hidden, eps=shape.epsilon)

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dense(x) + residual)


class Layer(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(shape), "output": Output(shape.hidden, shape)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(shape.hidden, shape.intermediate)})
        self.output = Output(shape.intermediate, shape)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x = self.attention["output"](self.attention["self"](x, bias), x)
        return self.output(nn.functional.gelu(self.intermediate["dense"](x)), x)


class Embeddings(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocabulary, shape.hidden)
        self.position_embeddings = nn.Embedding(shape.positions, shape.hidden)
        self.token_type_embeddings = nn.Embedding(2, shape.hidden)
        self.LayerNorm = nn.LayerNorm(shape.hidden, eps=shape.epsilon)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        places = self.position_embeddings.weight[: input_ids.shape[1]]
        return self.LayerNorm(self.word_embeddings(input_ids) + places + self.token_type_embeddings.weight[0])


def best_device() -> torch.device:
    """A GPU that torch can use, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


class Encoder(nn.Module):  # type: ignore[misc]
    """Token ids to one vector of length 1: the mean over the tokens of the last layer."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = Embeddings(shape)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList([Layer(shape) for _ in range(shape.layers)])})

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """int64 [batch, length] twice -> float32 [batch, hidden]."""
        x = self.embeddings(input_ids)
        mask = attention_mask.to(x.dtype)
        bias = (1.0 - mask)[:, None, None, :] * -1e4
        for layer in self.encoder["layer"]:
            x = layer(x, bias)
        pooled = (x.float() * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1.0)
        return nn.functional.normalize(pooled, dim=1)

    @property
    def device(self) -> torch.device:
        return self.embeddings.word_embeddings.weight.device

    def arrays(self) -> Arrays:
        """The parameters as float32 numpy arrays, for `router.graph`."""
        return {name: value.detach().float().cpu().numpy() for name, value in self.state_dict().items()}


def read_shape(config: Mapping[str, Any], where: Path) -> EncoderShape:
    """From a checkpoint's config.json. Raises `InvalidModel` for another architecture."""
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise InvalidModel(where, "not a BERT encoder with gelu")
    try:
        return EncoderShape(
            layers=int(config["num_hidden_layers"]),
            hidden=int(config["hidden_size"]),
            heads=int(config["num_attention_heads"]),
            intermediate=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            positions=int(config["max_position_embeddings"]),
            epsilon=float(config["layer_norm_eps"]),
        )
    except KeyError as error:
        raise InvalidModel(where, f"config.json has no {error}") from error


def load_shape(folder: Path) -> EncoderShape:
    """Raises `InvalidModel`."""
    return read_shape(strict_json.read_object(folder / "config.json"), folder)


def load_encoder(folder: Path, layers: tuple[int, ...] | None = None) -> Encoder:
    """The encoder of a checkpoint folder (config.json, model.safetensors), or only the named layers of it.

    Raises `InvalidModel`.
    """
    from dataclasses import replace

    from safetensors.torch import load_file

    shape = load_shape(folder)
    tensors = load_file(folder / "model.safetensors")
    if layers is not None:
        tensors = _only(tensors, layers)
        shape = replace(shape, layers=len(layers))
    encoder = Encoder(shape)
    missing, _ = encoder.load_state_dict(tensors, strict=False)
    if missing:
        raise InvalidModel(folder / "model.safetensors", f"no tensor {missing[0]}")
    encoder.eval()
    return encoder


def _only(tensors: Mapping[str, torch.Tensor], layers: tuple[int, ...]) -> dict[str, torch.Tensor]:
    kept = {name: value for name, value in tensors.items() if not name.startswith("encoder.layer.")}
    for new, old in enumerate(layers):
        prefix = f"encoder.layer.{old}."
        for name, value in tensors.items():
            if name.startswith(prefix):
                kept[f"encoder.layer.{new}.{name.removeprefix(prefix)}"] = value
    return kept
