"""How things stand at this moment, as the dashboard shows them: of the settings, the metrics, the models."""

from __future__ import annotations

from collections.abc import Mapping

import edge_router
from edge_router.api.client import Controller
from edge_router.metrics.counters import Labels

Values = Mapping[str, list[tuple[Labels, float]]]
_P = "edge_router_"


def facts(controller: Controller) -> dict[str, object]:
    """All that the page shows beside the traffic."""
    config, values = controller.config, controller.metrics.values()
    cache = config.response_cache
    return {
        "version": edge_router.__version__,
        "weak": _weak(controller),
        "strong": config.strong_title,
        "offline": config.offline,
        "ledger": {"enabled": config.ledger.enabled, "prompts": config.ledger.store_prompts},
        "memory": {
            "planned": _by_label(values, "memory_planned_bytes"),
            "budget": _one(values, "memory_budget_bytes"),
            "resident": _one(values, "memory_resident_bytes"),
            "peak": _one(values, "memory_peak_bytes"),
        },
        "sessions": {
            "enabled": config.sessions.enabled,
            "fingerprints": _one(values, "session_fingerprints"),
            "held": [
                {"tier": tier, "held": held, "answers": count}
                for (tier, held), count in values.get(f"{_P}session_holds_total", ())
            ],
            "tokens": _by_label(values, "session_tokens_total"),
        },
        "endpoints": [
            {"name": each.name, "state": each.state, "in_flight": each.in_flight, "again_s": each.again_s}
            for each in controller.endpoints
        ],
        "cache": {
            "mode": cache.mode,
            "lookups": _by_label(values, "response_cache_lookups_total"),
            "answers": _one(values, "response_cache_answers"),
            "bytes": _one(values, "response_cache_bytes"),
        },
        "defects": [
            {"component": component, "error": error, "count": count}
            for (component, error), count in values.get(f"{_P}defects_total", ())
        ],
    }


def _weak(controller: Controller) -> dict[str, object]:
    info = controller.model("weak")
    restarts = controller.weak_restarts
    return {
        "model": controller.config.weak.model,
        "loaded": info.loaded,
        "on_gpu": info.on_gpu,
        "quantization": info.quantization,
        "context_window": info.context_window,
        "restarts": None if restarts is None else {"state": restarts.state, "count": restarts.count},
    }


def _by_label(values: Values, name: str) -> dict[str, float]:
    return {labels[0]: value for labels, value in values.get(_P + name, ())}


def _one(values: Values, name: str) -> float | None:
    return next((value for _, value in values.get(_P + name, ())), None)
