"""Settings as keyword arguments of Python: configuration keys with two underscores, each with its type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from edge_router.config.settings import Config
from edge_router.config.tiers import TierConfig


class SettingArguments(TypedDict, total=False):
    """Every setting but those of tables that the user names (`endpoints`, `callers`), which a `Config` holds.

    `weak__threads` is "weak.threads"; what is not given is as the file and the environment say.
    """

    # <!-- arguments -->
    offline: bool
    tiers: Sequence[TierConfig] | str
    router__name: str
    router__threshold: float | None
    router__strong_share: float | None
    router__threads: int
    router__chores: bool
    router__provider: str
    weak__model: str
    weak__engine: str
    weak__device: str
    weak__quantization: str | None
    weak__quantizer: str | None
    weak__activations: str
    weak__kv_cache: str
    weak__context_window_size: int | None
    weak__prefill_chunk_size: int | None
    weak__sliding_window_size: int | None
    weak__attention_sink_size: int | None
    weak__max_sequences: int | None
    weak__speculation: bool
    weak__vram_budget: str | None
    weak__unload_after_s: float | None
    weak__base_url: str | None
    weak__trusted_hosts: Sequence[str]
    weak__api_key_env: str | None
    weak__server_timeout_s: float
    weak__overflow: str
    weak__min_confidence: float | None
    weak__tools: str
    weak__thinking: bool | None
    weak__end_loops: bool
    weak__keep_prefix: str | None
    weak__keep_max_size: str
    weak__threads: int | None
    weak__build: bool
    weak__retry_load_s: float
    weak__on_defect: str
    mlc__python: str | None
    mlc__mode: str | None
    mlc__gpu_memory_utilization: float | None
    mlc__load_timeout_s: float
    strong__engine: str
    strong__base_url: str | None
    strong__model: str | None
    strong__api_key_env: str
    strong__keyring_service: str
    strong__timeout_s: float
    strong__first_token_timeout_s: float | None
    strong__total_timeout_s: float
    strong__connect_timeout_s: float
    strong__max_retries: int
    strong__price_in: float | None
    strong__price_out: float | None
    strong__monthly_budget: float | None
    strong__hedge: bool
    strong__hedge_after_ms: int | None
    strong__strategy: str
    questions__base_url: str | None
    questions__protocol: str
    questions__model: str | None
    questions__api_key_env: str | None
    questions__local: bool
    questions__price_in: float | None
    questions__price_out: float | None
    judge__base_url: str | None
    judge__protocol: str
    judge__model: str | None
    judge__api_key_env: str | None
    judge__timeout_s: float
    guard__level: str
    guard__secrets: str | None
    guard__cards: str | None
    guard__ibans: str | None
    guard__emails: str | None
    guard__phones: str | None
    guard__paths: str | None
    guard__hosts: str | None
    rules__file: str | None
    server__host: str
    server__port: int
    server__ollama_port: int | None
    server__api_key_env: str
    server__allowed_hosts: Sequence[str]
    server__allowed_origins: Sequence[str]
    server__resident: bool
    server__dashboard: bool
    ledger__enabled: bool
    ledger__store_prompts: bool
    ledger__upgrade: str
    response_cache__mode: str
    response_cache__max_age_s: float
    response_cache__max_size: str
    response_cache__sampled: bool
    response_cache__tools: bool
    response_cache__similarity: float | None
    sessions__enabled: bool
    sessions__stickiness: float
    sessions__ttl_s: float
    sessions__max_fingerprints: int
    # <!-- /arguments -->


def configured(config: Config | None, settings: SettingArguments) -> Config:
    """`config`, else what the user's file and the environment say, with `settings` on top.

    Raises `ConfigError`, also for a setting that is not known.
    """
    given = cast("Mapping[str, Any]", settings)
    overrides = {name.replace("__", "."): value for name, value in given.items()}
    return Config.load(overrides=overrides) if config is None else config.replace(**overrides)
