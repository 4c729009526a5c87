"""What a model's config may hold, whichever kind of file it was read from."""

from __future__ import annotations

from pathlib import Path

from edge_router.errors import InvalidModel

_MOST = 2**31 - 1
_COUNTS = (
    *("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers"),
    *("head_dim", "vocab_size", "max_position_embeddings", "original_max_position_embeddings"),
    *("sliding_window", "sliding_window_pattern", "context_window_size", "prefill_chunk_size"),
)
_REALS = (
    *("rms_norm_eps", "rope_theta", "position_embedding_base", "rope_local_base_freq"),
    *("partial_rotary_factor", "query_pre_attn_scalar"),
    *("attn_logit_softcapping", "final_logit_softcapping"),
)
_OBJECTS = ("text_config", "model_config", "rope_scaling", "rope_parameters")


def checked_config(config: dict[str, object], where: Path) -> dict[str, object]:
    """`config` where each key that sizes or formulas are made of holds what it must, or nothing.

    Raises `InvalidModel`, which names the key.
    """
    for key in _COUNTS:
        value = config.get(key)
        if key == "sliding_window_pattern" and isinstance(value, str) and value and not {*value} - {*"LG"}:
            continue  # EXAONE 4's, a letter for each layer
        good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST
        if value is not None and not good:
            raise InvalidModel(where, f"{key} is {_shown(value)}, not a positive whole number")
    for key in _REALS:
        value = config.get(key)
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MOST
        if value is not None and not good:
            raise InvalidModel(where, f"{key} is {_shown(value)}, not a positive number")
    for key in _OBJECTS:
        value = config.get(key)
        if value is not None and not isinstance(value, dict):
            raise InvalidModel(where, f"{key} is {_shown(value)}, not an object")
    return config


def _shown(value: object) -> str:
    return repr(value)[:40]
