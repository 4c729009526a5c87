"""What stands in attention's place, in plain numpy: a function for each `architectures.mixers.Mixer`.

Each is given the config, what comes in multiplied with the mixer's input matrices [tokens, their rows], its
other weights by name and its states by name, which it changes: all tokens of one text so far are in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np

from edge_router.compile.readers.base import Floats

Weights = Callable[[str], Floats]
Mix = Callable[[Mapping[str, object], Floats, Weights, dict[str, Floats]], Floats]


def short_convolution(
    config: Mapping[str, object], projected: Floats, weight: Weights, states: dict[str, Floats]
) -> Floats:
    """LFM2's: C * convolution(B * x)."""
    before, after, x = np.split(projected, 3, axis=-1)
    return cast(Floats, after * convolved(before * x, weight("conv.weight"), states))


def convolved(inputs: Floats, taps: Floats, states: dict[str, Floats]) -> Floats:
    """inputs [tokens, channels], each convolved with its own of taps [channels, taps], now's the last."""
    count = taps.shape[1]
    whole = np.concatenate([states["tail"], inputs])
    states["tail"] = whole[len(whole) - (count - 1) :]
    found = np.zeros_like(inputs)
    for tap in range(count):
        found += whole[tap : tap + len(inputs)] * taps[:, tap]
    return found


def gated_delta_net(
    config: Mapping[str, object], projected: Floats, weight: Weights, states: dict[str, Floats]
) -> Floats:
    """Qwen 3.5's: a state per head, which a token fades and corrects where it is to hold its key's value."""
    heads, keys, values = states["memory"].shape
    key_heads = cast(int, config["linear_num_key_heads"])
    channels, inner = 2 * key_heads * keys + heads * values, heads * values
    ends = (channels, channels + inner, channels + inner + heads)
    mixed, gate, rate, step = np.split(projected, ends, axis=-1)
    mixed = _silu(convolved(mixed, weight("conv1d.weight"), states))
    query, key, value = np.split(mixed, [key_heads * keys, 2 * key_heads * keys], axis=-1)
    query, key = (
        np.repeat(_unit(part.reshape(-1, key_heads, keys)), heads // key_heads, axis=1)
        for part in (query, key)
    )
    faded = np.exp(-np.exp(weight("A_log")) * _softplus(step + weight("dt_bias")))
    found, memory = np.empty((len(projected), heads, values), np.float32), states["memory"]
    for at, now in enumerate(value.reshape(-1, heads, values)):
        memory = memory * faded[at][:, None, None]
        known = np.einsum("hkv,hk->hv", memory, key[at])
        memory = memory + key[at][..., None] * ((now - known) * _sigmoid(rate[at])[:, None])[:, None]
        found[at] = np.einsum("hkv,hk->hv", memory, query[at]) * np.float32(keys**-0.5)
    states["memory"] = memory
    size = np.float32(cast(float, config["rms_norm_eps"]))
    normed = found / np.sqrt((found * found).mean(-1, keepdims=True) + size) * weight("norm.weight")
    return cast(Floats, normed.reshape(-1, inner) * _silu(gate))


def _unit(vectors: Floats) -> Floats:
    return cast(Floats, vectors / np.sqrt((vectors * vectors).sum(-1, keepdims=True) + np.float32(1e-6)))


def _sigmoid(x: Floats) -> Floats:
    return cast(Floats, np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * x)))


def _silu(x: Floats) -> Floats:
    return cast(Floats, x * _sigmoid(x))


def _softplus(x: Floats) -> Floats:
    return cast(Floats, np.logaddexp(x, np.float32(0)))


def mamba2(
    config: Mapping[str, object], projected: Floats, weight: Weights, states: dict[str, Floats]
) -> Floats:
    """Mamba 2's: a state per head, which a token fades by its step and writes to, and which is read from."""
    heads, keys, values = states["memory"].shape
    groups, inner = cast(int, config.get("mamba_n_groups") or 1), heads * values
    gate, mixed, step = np.split(projected, [inner, projected.shape[-1] - heads], axis=-1)
    mixed = _silu(convolved(mixed, weight("conv1d.weight"), states) + weight("conv1d.bias"))
    value, key, query = np.split(mixed, [inner, inner + groups * keys], axis=-1)
    key, query = (np.repeat(part.reshape(-1, groups, keys), heads // groups, axis=1) for part in (key, query))
    step = _softplus(step + weight("dt_bias"))
    faded = np.exp(-np.exp(weight("A_log")) * step)
    found, memory = np.empty((len(projected), heads, values), np.float32), states["memory"]
    for at, now in enumerate(value.reshape(-1, heads, values)):
        written = key[at][..., None] * (now * step[at][:, None])[:, None]
        memory = memory * faded[at][:, None, None] + written
        found[at] = np.einsum("hkv,hk->hv", memory, query[at]) + now * weight("D")[:, None]
    states["memory"] = memory
    gated = (found.reshape(-1, inner) * _silu(gate)).reshape(len(projected), groups, -1)
    epsilon = np.float32(cast(float, config["rms_norm_eps"]))
    normed = gated / np.sqrt((gated * gated).mean(-1, keepdims=True) + epsilon)
    return cast(Floats, normed.reshape(-1, inner) * weight("norm.weight"))
