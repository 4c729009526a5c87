"""What values the settings may have, alone and together."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge_router.config.callers import check_callers
from edge_router.config.listed_prices import is_listed
from edge_router.config.misplaced import check_keys
from edge_router.config.named_tables import ENDPOINTS, TAKEN
from edge_router.config.questions import check_questions
from edge_router.config.router import check_router_settings
from edge_router.config.sections import GuardConfig
from edge_router.config.tiers import check_tiers
from edge_router.errors import ConfigError
from edge_router.parsing.sizes import Share, parse_size

if TYPE_CHECKING:
    from edge_router.config.settings import Config

_MOST_THREADS = 1024  # some 10 MB each; more wait for each other longer than they compute


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def check_values(config: Config) -> None:
    """Raises `ConfigError` for the first value that its key does not take, or not beside the others."""
    check_keys(config)

    def require(key: str, holds: bool, reason: str) -> None:
        if not holds:
            raise ConfigError(key, config.get(key), reason, config.origin(key))

    def one_of(key: str, *words: str) -> None:
        require(key, config.get(key) in words, f"must be one of {', '.join(words)}")

    check_router_settings(config.router, config.judge, require)
    share = config.router.strong_share
    check_tiers(config.tiers, config.strong_names, require, threshold=config.router.threshold)
    theirs = config.server.ollama_port
    require("server.ollama_port", theirs is None or 1 <= theirs <= 65535, "must be between 1 and 65535")
    require("server.ollama_port", theirs != config.server.port, "must be another one than server.port")
    require("server.port", 0 <= config.server.port <= 65535, "must be between 0 and 65535")
    require("strong.max_retries", 0 <= config.strong.max_retries <= 20, "must be between 0 and 20")
    waits = ("timeout_s", "first_token_timeout_s", "total_timeout_s", "connect_timeout_s")
    for key in (*(f"strong.{name}" for name in waits), "mlc.load_timeout_s", "weak.server_timeout_s"):
        wait = typing.cast("float | None", config.get(key))
        require(key, wait is None or 0 < wait <= 86400, "must be between 0 and 86400 seconds")
    windows = ("context_window_size", "prefill_chunk_size", "sliding_window_size")
    for key in (*(f"weak.{name}" for name in windows), "strong.hedge_after_ms"):
        value = typing.cast("int | None", config.get(key))
        require(key, value is None or value >= 1, "must be at least 1")
    for key in ("weak.threads", "router.threads"):
        value = typing.cast("int | None", config.get(key))
        require(key, value is None or 1 <= value <= _MOST_THREADS, f"must be between 1 and {_MOST_THREADS}")
    sinks = config.weak.attention_sink_size
    require("weak.attention_sink_size", sinks is None or sinks >= 0, "must be at least 0")
    modes = ("local", "interactive", "server")
    require("mlc.mode", config.mlc.mode in (None, *modes), f"must be one of {', '.join(modes)}")
    used = config.mlc.gpu_memory_utilization
    require("mlc.gpu_memory_utilization", used is None or 0 < used < 1, "must be between 0 and 1")
    together = config.weak.max_sequences
    require("weak.max_sequences", together is None or 1 <= together <= 256, "must be between 1 and 256")
    idle = config.weak.unload_after_s
    require("weak.unload_after_s", idle is None or idle >= 0, "must be at least 0 seconds")
    least = config.weak.min_confidence
    require("weak.min_confidence", least is None or 0 <= least <= 1, "must be between 0 and 1")
    require("weak.retry_load_s", 0 <= config.weak.retry_load_s <= 86400, "must be 0 to 86400 seconds")
    one_of("weak.on_defect", "error", "escalate")
    one_of("weak.activations", "int16", "int8")
    one_of("weak.kv_cache", "auto", "float16", "int8")
    one_of("weak.tools", "auto", "yes", "no")
    keeps = (None, "off", "marked", "cache_control", "system")
    require("weak.keep_prefix", config.weak.keep_prefix in keeps, f"must be one of {', '.join(keeps[1:])}")
    one_of("weak.overflow", "auto", "escalate", "window", "truncate")
    if config.weak.vram_budget is not None:
        parse_size(config.weak.vram_budget, source=config.origin("weak.vram_budget"))
    for key in ("strong.price_in", "strong.price_out", "strong.monthly_budget"):
        price = typing.cast("float | None", config.get(key))
        require(key, price is None or 0 <= price < float("inf"), "must be 0 or more")
    sticky, alive = config.sessions.stickiness, config.sessions.ttl_s
    require("sessions.stickiness", 0 <= sticky < float("inf"), "must be 0 or more")
    require("sessions.ttl_s", 0 < alive < float("inf"), "must be more than 0 seconds")
    require("sessions.max_fingerprints", config.sessions.max_fingerprints >= 1, "must be at least 1")
    strong, budgeted = config.strong, config.strong.monthly_budget is not None
    listed = config.is_budgeted and is_listed(strong)
    priced = strong.price_in or strong.price_out or listed
    apart = strong.model is None and bool(config.endpoints or config.questions.is_priced)  # by their own
    known = bool(priced) or apart
    require("strong.monthly_budget", known or not budgeted, "needs strong.price_in and price_out")
    held = budgeted and share is not None
    require("strong.monthly_budget", not held, "moves the threshold, so router.strong_share must not be set")
    levels, actions = ("off", "standard", "strict"), ("allow", "redact", "local")
    require("guard.level", config.guard.level in levels, f"must be one of {', '.join(levels)}")
    for key in (f"guard.{item.name}" for item in fields(GuardConfig) if item.name != "level"):
        require(key, config.get(key) in (None, *actions), f"must be one of {', '.join(actions)}")
    modes, least_alike = ("off", "memory", "disk"), config.response_cache.similarity
    known_mode = config.response_cache.mode in modes
    require("response_cache.mode", known_mode, f"must be one of {', '.join(modes)}")
    alike = least_alike is None or 0 < least_alike <= 1
    require("response_cache.similarity", alike, "must be above 0 and at most 1")
    require("response_cache.max_age_s", config.response_cache.max_age_s > 0, "must be above 0 seconds")
    _check_amounts(config, require)
    betters = ("off", "ask", "auto")
    require("ledger.upgrade", config.ledger.upgrade in betters, f"must be one of {', '.join(betters)}")
    near = config.weak.base_url
    if near is not None and not near.startswith("unix:"):
        near = near if "://" in near else f"http://{near}"
    place = near is None or near.startswith("unix:/") or _has_host(near)
    require("weak.base_url", place, "must be an address, such as http://127.0.0.1:11434, or unix:/PATH")
    theirs_at = (f"{ENDPOINTS}.{each.name}.base_url" for each in config.endpoints)
    for key in ("strong.base_url", "questions.base_url", "judge.base_url", *theirs_at):
        url = typing.cast("str | None", config.get(key))
        reached = url is None or url.startswith(("http://", "https://"))
        require(key, reached, "must start with http:// or https://")
        require(key, url is None or _has_host(url), "must be an address: a host, and a port if any")
    _check_endpoints(config, require)
    check_questions(config.questions, require)
    check_callers(config.callers, require, budgeted=budgeted, shared=share is not None, priced=known)


def _check_amounts(config: Config, require: Callable[[str, bool, str], None]) -> None:
    for key in ("response_cache.max_size", "weak.keep_max_size"):
        size = parse_size(str(config.get(key)), key=key, source=config.origin(key))
        require(key, not isinstance(size, Share), "must be an amount such as 100MB")


def _check_endpoints(config: Config, require: Callable[[str, bool, str], None]) -> None:
    strategies = ("first", "least_busy", "weighted", "cheapest")
    strategy = config.strong.strategy
    require("strong.strategy", strategy in strategies, f"must be one of {', '.join(strategies)}")
    for each in config.endpoints:
        at = f"{ENDPOINTS}.{each.name}"
        named = re.fullmatch(r"[A-Za-z0-9_-]{1,40}", each.name) and each.name not in TAKEN
        plain = "an endpoint's name is made of letters, digits, - and _, and is not one of "
        require(f"{at}.models", bool(named), plain + ", ".join(TAKEN))
        require(f"{at}.models", bool(each.models) and all(each.models), "must name the models to ask it for")
        for key, names in (("models", each.models), ("tags", each.tags)):
            meant = not any(name in TAKEN or name.startswith("router-") for name in names)
            require(f"{at}.{key}", meant, f"none may be called {', '.join(TAKEN)} or router-...")
        require(f"{at}.protocol", each.protocol == "openai", "must be openai")
        require(f"{at}.weight", 0 <= each.weight < float("inf"), "must be 0 or more")
        for name in ("requests_per_minute", "tokens_per_minute", "concurrency"):
            limit = getattr(each, name)
            require(f"{at}.{name}", limit is None or limit >= 1, "must be at least 1")
        for name in ("price_in", "price_out"):
            price = getattr(each, name)
            require(f"{at}.{name}", price is None or 0 <= price < float("inf"), "must be 0 or more")
        priced = each.price_in is not None and each.price_out is not None
        priced = priced or not config.is_budgeted or is_listed(each)
        require(f"{at}.price_in", priced, f"a budget needs it and {at}.price_out")
