"""What `doctor` says of callers: where the key of each is, its limits, what it has spent. No key is shown."""

from __future__ import annotations

import math

from edge_router.cli.findings import Finding, Found
from edge_router.cli.session import Installation, server_key
from edge_router.cli.terminal.failures import told
from edge_router.cli.verbs.keys import in_words, key_of, limits_of
from edge_router.config.settings import Config
from edge_router.errors import ConfigError
from edge_router.routing.thresholds.purses import Budgets

CALLERS = "Callers"


def callers(site: Installation, config: Config) -> Found:
    """Nothing where none is configured."""
    if not config.callers:
        return
    from edge_router.callers.keys import KeyRing

    budgets = Budgets.of(config, site.paths)
    for each in config.callers:
        making = site.command("keys", "new", each.name)
        key = f"key {where}" if (where := key_of(each)) else f"none, so that nobody is it; make one: {making}"
        limits = in_words(limits_of(each))
        spent = [
            f"{own.spent:.4f} of {own.budget:g} spent this {own.period.word}"
            if math.isfinite(own.spent)
            else f"what was spent cannot be told: {own.problem}"
            for own in budgets.purses(each.name).own
        ]
        text = "; ".join(part for part in (key, limits, *spent) if part)
        exhausted = any(own.exhausted for own in budgets.purses(each.name).own)
        yield Finding(CALLERS, each.name, text, "note" if exhausted or key_of(each) is None else "ok")
    try:
        KeyRing.of(config.callers, owner=server_key(config))
    except ConfigError as error:
        yield Finding(CALLERS, "keys", f"a server would not start: {told(error)}", "bad")
