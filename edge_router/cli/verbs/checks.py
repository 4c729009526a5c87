"""What `doctor` looks at. A check that meets one of our errors tells its sentence; none of them may raise."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edge_router.cli.calibrate import typed_questions
from edge_router.cli.findings import Finding, Found
from edge_router.cli.session import Installation
from edge_router.cli.terminal import output
from edge_router.cli.terminal.failures import told
from edge_router.cli.verbs import (
    caller_checks,
    graphics,
    local_servers,
    mlc_checks,
    remote_checks,
    response_cache,
)
from edge_router.cli.verbs.configuration import shown
from edge_router.config.settings import Config
from edge_router.config.tiers import bound_of
from edge_router.engines.choice import SERVED
from edge_router.errors import ConfigError, InvalidModel, NotWritable, UnknownModel
from edge_router.parsing.sizes import binary
from edge_router.system.paths import Paths

if TYPE_CHECKING:
    from edge_router.routing.routers.base import Router

ROOM = 2_000_000_000  # bytes; less free space is worth a word
FAST = {  # what the kernels are faster for
    *("avx2", "fma", "f16c", "avxvnni", "avx512f", "avx512bw", "avx512vnni", "avx512bf16", "amx-int8"),
    *("neon", "dotprod", "i8mm", "bf16", "fullfp16", "sve", "sve2"),
}
SAMPLE = "Prove that there are infinitely many primes."
RUNS = 5


def examine(site: Installation, *, offline: bool) -> Found:
    """Everything, in the order in which one thing needs another."""
    yield from _guarded("This machine", "machine", lambda: machine(site))
    yield from _guarded("This machine", "webgpu", graphics.webgpu)
    yield from _guarded("Packages", "packages", packages)
    yield from _guarded("Packages", "reports", reports)
    yield from _guarded("Folders", "folders", lambda: folders(site))
    yield from _guarded("Defects", "defects", lambda: defects(site))
    try:
        config = site.config(offline=offline)
    except ConfigError as error:
        yield Finding("Configuration", "file", told(error), "bad")
        return
    yield from _guarded("Configuration", "file", lambda: configuration(site, config))
    yield from _guarded("Configuration", "names", lambda: names(config))
    yield from _guarded("Privacy", "rules", lambda: egress(site, config))
    yield from _guarded("Privacy", "response cache", lambda: response_cache.check(site, config))
    yield from _guarded("Network", "proxy", lambda: remote_checks.network(config))
    yield from _guarded("Router", "router", lambda: router(config))
    yield from _guarded("Router", "drift", lambda: drift(site, config))
    yield from _guarded("Weak model", "model", lambda: weak(site, config))
    yield from _guarded("Local servers", "servers", lambda: local_servers.running(site, config))
    yield from _guarded("Strong model", "model", lambda: remote_checks.strong(site, config))
    yield from _guarded("Strong model", "budget", lambda: budget(site, config))
    yield from _guarded("Typed questions", "sure enough", lambda: typed_questions.check(site, config))
    yield from _guarded("Callers", "callers", lambda: caller_checks.callers(site, config))


def _guarded(section: str, name: str, check: Callable[[], Found]) -> Found:
    """A check that breaks is a finding, not the end of the others."""
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - whatever is wrong is what is looked for; its text is kept
        yield Finding(section, name, told(error), "bad")


def machine(site: Installation) -> Found:
    from edge_router.device import gpus, host, vulkan_loader

    section = "This machine"
    yield Finding(section, "python", f"{platform.python_version()} ({sys.executable})")
    yield Finding(section, "system", platform.platform())
    here = host(site.paths.artifacts / "host.json")
    cores = f"{here.physical_cores} cores, {here.logical_cores} threads"
    yield Finding(section, "processor", f"{here.cpu_name} ({here.machine}, {here.cpu}), {cores}")
    fast = [feature for feature in here.features if feature in FAST]
    yield Finding(section, "extensions", " ".join(fast) or "none that speed it up")
    memory = f"{output.size(here.memory_total)}, {output.size(here.memory_free)} free"
    yield Finding(section, "memory", memory)
    found = gpus()
    for gpu in found:
        total = f", {output.size(gpu.memory_total)}" if gpu.memory_total else ""
        free = f", {output.size(gpu.memory_free)} free" if gpu.memory_free is not None else ""
        about = ", ".join(word for word in (gpu.architecture, gpu.driver) if word)
        yield Finding(section, "gpu", f"{gpu.name}{total}{free}{f' ({about})' if about else ''}")
    if not found:
        yield Finding(section, "gpu", "none seen; the processor does the work")
    yield Finding(section, "vulkan", vulkan_loader() or "no loader")


def packages() -> Found:
    """What the package says it needs, held against what is installed."""
    section = "Packages"
    yield Finding(section, "edge-router", metadata.version("edge-router"))
    for line in metadata.requires("edge-router") or ():
        requirement, _, marker = line.partition(";")
        name = re.match(r"[\w.-]+", requirement)
        if name is None or "extra" in marker:
            continue
        try:
            installed = metadata.version(name[0])
        except metadata.PackageNotFoundError:
            mend = f'not installed; install it: python -m pip install "{requirement.strip()}"'
            yield Finding(section, name[0], mend, "bad")
            continue
        pinned = re.search(r"==\s*([\w.]+)", requirement)
        if pinned is not None and pinned[1] != installed:
            mend = f'{installed}, but {pinned[1]} is needed: python -m pip install "{requirement.strip()}"'
            yield Finding(section, name[0], mend, "bad")
        else:
            yield Finding(section, name[0], installed)


def reports() -> Found:
    """Whether a library tells its makers of its use."""
    from edge_router.system.telemetry import SWITCHES, reporting

    early = reporting(os.environ, sys.modules)
    for name in early:
        mend = f"may report home; set {SWITCHES[name]}=1 before it is imported"
        yield Finding("Packages", name, mend, "bad")
    if not early:
        text = f"{' and '.join(SWITCHES)} report nothing home: switched off before they are imported"
        yield Finding("Packages", "reports", text)


def egress(site: Installation, config: Config) -> Found:
    """What is kept from the strong model, and the user's own rules."""
    from edge_router.control.rule_source import load_rules, rules_file
    from edge_router.guard.inspection import LOCAL, REDACT, actions

    done = actions(config.guard)
    kept, hidden = (", ".join(kind for kind in done if done[kind] == what) for what in (LOCAL, REDACT))
    parts = [f"{kept} stay here"] if kept else []
    parts += [f"{hidden} are hidden from the strong model"] if hidden else []
    if parts:
        yield Finding("Privacy", "guard", "; ".join(parts))
    else:
        mend = f"is off; keep keys here with: {site.command('config', 'set', 'guard.level=standard')}"
        yield Finding("Privacy", "guard", mend, "note")
    file = rules_file(config, site.paths)
    read = load_rules(config, site.paths)
    yield Finding("Privacy", "rules", f"{len(read)} in {file}" if read else f"none; they stand in {file}")


def defects(site: Installation) -> Found:
    """Mistakes in the program that this version has met here; nothing where there were none."""
    from edge_router.defects import recorded

    for defect in recorded(site.paths.defects):
        if defect.version == metadata.version("edge-router"):
            last = datetime.fromtimestamp(defect.last).strftime("%Y-%m-%d %H:%M")
            met = f"met {defect.count} time{'' if defect.count == 1 else 's'}, last {last}"
            text = f"{defect.kind} at {defect.place}, {met}; see all of it with: edge-router chat --debug"
            yield Finding("Defects", defect.component, text, "note")


def names(config: Config) -> Found:
    """Nothing where every name is known; a model's is looked up with the weak model."""
    from edge_router.control.names import check_names

    with suppress(UnknownModel, InvalidModel):
        check_names(config)
    yield from ()


def folders(site: Installation) -> Found:
    section = "Folders"
    paths = site.paths
    for name, path in (
        ("downloads", paths.downloads),
        ("artifacts", paths.artifacts),
        ("ledger", paths.ledger.parent),
    ):
        place = _existing(path)
        if not (place.is_dir() and os.access(place, os.W_OK)):
            yield Finding(section, name, told(NotWritable(path)), "bad")
            continue
        free = shutil.disk_usage(place).free
        if free < ROOM:
            mend = f"only {output.size(free)} free; make room, for instance with: edge-router artifacts prune"
            yield Finding(section, name, f"{path}, {mend}", "note")
        else:
            yield Finding(section, name, f"{path}, {output.size(free)} free")


def configuration(site: Installation, config: Config) -> Found:
    section = "Configuration"
    file = site.config_file
    text = (
        str(file)
        if file.is_file()
        else f"{file} is not there; write it with: {site.command('config', 'init')}"
    )
    yield Finding(section, "file", text)
    changed = [f"{key}={shown(key, config.get(key))} ({origin})" for key, origin in config.origins.items()]
    yield Finding(section, "changed", ", ".join(changed) or "nothing; all defaults")


def router(config: Config) -> Found:
    from edge_router import plugins
    from edge_router.chat.message import Message
    from edge_router.control.router_judge import RouterJudge
    from edge_router.routing.routers import routers
    from edge_router.routing.routers.base import AsksEndpoint, AsksWeak
    from edge_router.routing.routers.fitting import default_threshold

    section = "Router"
    begin = time.perf_counter()
    known = plugins.extend(routers(config=config), plugins.ROUTERS)
    loaded = known.get(config.router.name)(threads=config.router.threads)
    load_ms = (time.perf_counter() - begin) * 1e3
    if isinstance(loaded, AsksWeak):
        yield Finding(section, loaded.name, "the weak model's own judgement; needs the weak model")
        return
    if isinstance(loaded, AsksEndpoint):
        yield Finding(section, loaded.name, RouterJudge.described(config))
        return
    score, times = 0.0, []
    for _ in range(RUNS):
        begin = time.perf_counter()
        score = loaded.score((Message("user", SAMPLE),))
        times.append((time.perf_counter() - begin) * 1e3)
    shown_threshold = bound_of(config)
    if shown_threshold is None:
        fits = config.has_strong
        shown_threshold = default_threshold(loaded, config) if fits else loaded.default_threshold
    yield Finding(section, loaded.name, f"threshold {shown_threshold:.3f}, loads in {load_ms:.0f} ms")
    yield _provider(section, loaded, config.router.provider)
    yield Finding(section, "scoring", f"{sorted(times)[RUNS // 2]:.1f} ms; {score:.3f} for {SAMPLE!r}")


def _provider(section: str, loaded: Router, asked: str) -> Finding:
    """Where it really runs, and why not where it was told to."""
    running = getattr(loaded, "provider", "none, it is no graph")
    note = getattr(loaded, "note", "")
    text = f"{running}, not {asked}: {note}" if note else str(running)
    return Finding(section, "provider", text, "note" if note else "ok")


def drift(site: Installation, config: Config) -> Found:
    """Nothing where no threshold was calibrated, or too little was asked since."""
    from edge_router.cli.chat.reasons import drift_words
    from edge_router.routing.thresholds.drift import current_drift

    found = current_drift(config, site.paths)
    if found is not None:
        text = f"none: the last {found.n} scores look like those that were calibrated on"
        yield Finding("Router", "drift", drift_words(found) or text, "note" if found.drifted else "ok")


def memory(section: str, config: Config, paths: Paths) -> Found:
    """Whether the configured model fits as it is configured; nothing where that can't be planned."""
    from edge_router.cli.chat.fetching import planned
    from edge_router.cli.verbs.plan_table import why_cut

    plan = planned(config, paths)
    if plan is None:
        return
    if plan.best is None:
        lacks = f"it does not fit: {binary(plan.shown.lacking)} are lacking; what fits is listed by"
        yield Finding(section, "memory", f"{lacks}: edge-router plan", "note")
    elif words := why_cut(plan):
        yield Finding(section, "memory", f"it gets {words}", "note")
    else:
        there = f"{binary(plan.shown.total)} of {binary(plan.room.budget)} on {plan.room.device}"
        yield Finding(section, "memory", f"it fits: {there}")


def weak(site: Installation, config: Config) -> Found:
    from edge_router.catalog import find_model
    from edge_router.cli.chat.building import BUILT_ENGINES, is_ready, weights_key
    from edge_router.cli.chat.suggestion import suggestion
    from edge_router.cli.terminal.sentences import quoted
    from edge_router.engines import resolved
    from edge_router.hub import target_of
    from edge_router.system.disk import tree_bytes

    section = "Weak model"
    if config.weak.engine == SERVED:
        yield from local_servers.weak(site, config)
        return
    yield Finding(section, "engine", f"{config.weak.engine} on {config.weak.device}")
    if config.weak.engine not in BUILT_ENGINES:
        return
    found = resolved(config)
    if found.weak.engine == "mlc":
        broken = False
        for finding in mlc_checks.mlc(found):
            broken = broken or finding.state == "bad"
            yield finding
        if broken:
            return
    card = find_model(config.weak.model)
    context = config.weak.context_window_size or card.context_window_size
    form = config.weak.quantization or card.quantization
    yield Finding(section, "model", f"{card.name} ({form}, context {context})")
    yield from memory(section, config, site.paths)
    better = suggestion(config, site.paths, look=True)
    if better is not None:
        yield Finding(section, "demo", f"that is the demo model; {better.words(site.options.config)}", "note")
    place = target_of(card.source, site.paths.downloads)
    if place.exists():
        yield Finding(section, "weights", f"{place}, {output.size(tree_bytes(place))}")
    else:
        mend = f"not here; fetch them now: edge-router models pull {quoted(config.weak.model)}"
        yield Finding(section, "weights", mend, "note")
    if is_ready(config, site.paths):
        yield Finding(section, "compiled", "for this machine and these settings")
        yield from confidence(section, site, config, lambda: weights_key(config, site.paths))
        yield from tools(section, site, config, card.name, lambda: weights_key(config, site.paths))
    else:
        mend = f"not yet; the first use does it, or now: edge-router compile {quoted(config.weak.model)}"
        yield Finding(section, "compiled", mend, "note")


def confidence(section: str, site: Installation, config: Config, weights: Callable[[], str]) -> Found:
    """Of a weak model by the key of its weights; nothing where no confidence is asked for."""
    from edge_router.routing.confidence.gate_store import find

    least = config.weak.min_confidence
    if least is None:
        return
    gate = find(site.paths, weights())
    if gate is None:
        mend = "has no effect yet; calibrate it: edge-router calibrate --confidence --strong-share 0.3"
        yield Finding(section, "confidence", f"weak.min_confidence {mend}", "note")
    else:
        text = f"unsure answers are escalated below {least:g}, after {gate.tokens} tokens at most"
        yield Finding(section, "confidence", text)


def tools(section: str, site: Installation, config: Config, model: str, weights: Callable[[], str]) -> Found:
    """Where it was measured; what nobody has asked for is not missed."""
    from edge_router.store.tool_skill import find, find_of

    if find_of(site.paths, model) is None:
        return
    skill = find(site.paths, weights())
    if skill is None:
        yield Finding(section, "tools", "measured with other weights: edge-router calibrate --tools", "note")
        return
    if config.weak.tools != "auto":
        said = "calls them" if config.weak.tools == "yes" else "calls none"
        yield Finding(section, "tools", f"{said}, as weak.tools says")
    elif skill.passed:
        yield Finding(section, "tools", f"calls them, {skill.functions:.0%} of the right ones")
    else:
        text = f"leaves them to the strong model: too few {' and '.join(skill.lacking)} were right"
        yield Finding(section, "tools", text)


def budget(site: Installation, config: Config) -> Found:
    """Nothing where none is configured."""
    from edge_router.routing.thresholds.spending import Spending

    spending = Spending.of(config, site.paths)
    if spending is not None:
        spent, problem = spending.spent, spending.problem
        if problem is not None:
            text = f"what was spent cannot be told, so the strong model rests: {told(problem)}"
            yield Finding("Strong model", "budget", text, "bad")
            return
        text = f"{spent:.4f} of {spending.budget:g} spent this month"
        yield Finding("Strong model", "budget", text, "note" if spent >= spending.budget else "ok")


def _existing(path: Path) -> Path:
    """The first folder upwards that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
