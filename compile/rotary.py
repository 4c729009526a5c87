"""Rotary embedding as numbers: by how much each pair of channels turns from one position to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt

from edge_router.catalog.rope import llama3_factors
from edge_router.errors import InvalidModel
from edge_router.records import dataclass

Floats = npt.NDArray[np.float64]
_KINDS = ("default", "linear", "dynamic", "llama3", "longrope", "proportional", "yarn")


@dataclass(frozen=True, slots=True)
class Rotary:
    """`frequencies` are radians per position; pairs beyond them are not turned. What is turned is also
    multiplied by `amplitude`, which "longrope" and "yarn" make other than 1."""

    frequencies: npt.NDArray[np.float32]
    amplitude: float = 1.0


def rotary(config: Mapping[str, object], head_dim: int, where: str = "rope_scaling") -> Rotary:
    """From Hugging Face's keys and, for "longrope" and "dynamic", the `context_window_size`.

    The formulas are those of transformers' modeling_rope_utils.py. Raises `InvalidModel` for a kind of
    scaling that is not known, or one with gaps.
    """
    theta = cast(float, config.get("rope_theta") or 10000.0)
    turned = int(head_dim * cast(float, config.get("partial_rotary_factor") or 1.0))
    scaling = cast("Mapping[str, object]", config.get("rope_scaling") or {})
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind not in (None, *_KINDS, "su"):
        raise InvalidModel(where, f"rope_scaling is {kind!r}; known: {', '.join(_KINDS)}")
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            plain: Floats = theta ** -(np.arange(0, turned, 2) / turned)
            if kind == "proportional":
                return _proportional(config, scaling, theta, head_dim)
            if kind == "dynamic":
                return _dynamic(config, scaling, theta, turned)
            if kind == "linear":
                return _rotary(plain / cast(float, scaling["factor"]))
            if kind == "llama3":
                return _rotary(plain / np.array(llama3_factors(scaling, plain.tolist())))
            if kind in ("longrope", "su"):
                return _longrope(config, scaling, plain)
            if kind == "yarn":
                return _yarn(config, scaling, plain, theta, turned)
            return _rotary(plain)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise InvalidModel(
            where, f"rope_theta {theta!r} and rope_scaling {dict(scaling)} cannot be used: {error!r}"
        ) from error


def _longrope(config: Mapping[str, object], scaling: Mapping[str, object], plain: Floats) -> Rotary:
    """Phi's. transformers changes from short to long factors when a text outgrows the original length.

    Here a model is compiled for a longest text, and that decides for all.
    """
    original = scaling.get("original_max_position_embeddings") or config["original_max_position_embeddings"]
    trained_on = cast(int, original)
    long = cast(int, config.get("context_window_size") or 0) > trained_on
    factors = np.asarray(scaling["long_factor" if long else "short_factor"], np.float64)
    if factors.shape != plain.shape:
        raise ValueError(f"{factors.size} factors for {plain.size} pairs of channels")
    stretch = scaling.get("factor") or cast(int, config["max_position_embeddings"]) / trained_on
    by = cast(float, stretch)
    stated = cast("float | None", scaling.get("attention_factor"))
    derived = 1.0 if by <= 1.0 else math.sqrt(1 + math.log(by) / math.log(trained_on))
    return _rotary(plain / factors, derived if stated is None else stated)


def _dynamic(
    config: Mapping[str, object], scaling: Mapping[str, object], theta: float, turned: int
) -> Rotary:
    """NTK-aware scaling that grows with the text: none up to the length that the model was trained on.

    transformers changes the base with every token beyond it. Here the longest text decides for all.
    """
    trained_on = cast(int, config["max_position_embeddings"])
    longest = max(cast(int, config.get("context_window_size") or 0), trained_on)
    factor = cast(float, scaling["factor"])
    base = theta * (factor * longest / trained_on - (factor - 1)) ** (turned / (turned - 2))
    return _rotary(base ** -(np.arange(0, turned, 2) / turned))


def _proportional(
    config: Mapping[str, object], scaling: Mapping[str, object], theta: float, head_dim: int
) -> Rotary:
    """As if whole heads were turned, but only the fastest pairs are; Gemma 4's."""
    share = scaling.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    pairs = int(cast(float, share) * head_dim // 2)
    plain: Floats = theta ** -(np.arange(0, head_dim, 2) / head_dim)
    plain[pairs:] = 0
    found = plain / cast(float, scaling.get("factor") or 1.0)
    return Rotary(np.pad(_rotary(found[:pairs]).frequencies, (0, len(plain) - pairs)))


def _yarn(
    config: Mapping[str, object], scaling: Mapping[str, object], plain: Floats, theta: float, turned: int
) -> Rotary:
    """YaRN (arXiv 2309.00071): pairs that turn often stay, those that turn seldom are slowed by the factor.

    Between `beta_fast` and `beta_slow` turns over the original length it goes from one to the other.
    """
    original = scaling.get("original_max_position_embeddings") or config["original_max_position_embeddings"]
    stated = scaling.get("factor") or cast(int, config["max_position_embeddings"]) / cast(int, original)
    factor, length = cast(float, stated), cast(int, original)

    def pair(turns: float) -> float:
        """The pair of channels that turns so often over the original length."""
        return turned * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = (
        pair(cast(float, scaling.get(key) or usual)) for key, usual in (("beta_fast", 32), ("beta_slow", 1))
    )
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, turned - 1)
    slowed = np.clip((np.arange(len(plain)) - first) / max(last - first, 1e-3), 0, 1)
    amplitude = scaling.get("attention_factor")
    if amplitude is None:
        both = [cast("float | None", scaling.get(key)) for key in ("mscale", "mscale_all_dim")]
        one, all_dims = both if both[0] and both[1] else (1.0, 0.0)
        amplitude = _grown(factor, cast(float, one)) / _grown(factor, cast(float, all_dims))
    return _rotary(plain * (1 - slowed) + plain / factor * slowed, cast(float, amplitude))


def _grown(factor: float, by: float) -> float:
    return 0.1 * by * math.log(factor) + 1.0 if factor > 1 else 1.0


def _rotary(values: Floats, amplitude: float = 1.0) -> Rotary:
    if not (np.isfinite(values).all() and (values > 0).all() and 0 < amplitude < math.inf):
        raise ValueError("positions must turn something, and forwards")
    return Rotary(cast("npt.NDArray[np.float32]", values.astype(np.float32)), amplitude)
