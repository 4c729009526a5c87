"""Before the weak model is asked: is it built, and may it be built now?

The default model is built without a question, for that is what the first run is about. Any other is offered.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_router.chat.request import ChatRequest
from edge_router.cli.session import Session, weak_title
from edge_router.cli.terminal.confirming import asked, is_someone_there
from edge_router.cli.terminal.stderr_redirect import hushed
from edge_router.config.sections import WeakConfig
from edge_router.config.settings import Config
from edge_router.control.names import check_names
from edge_router.errors import ArtifactMissing, EdgeRouterError
from edge_router.system.paths import Paths
from edge_router.types import Progress, SilentProgress

if TYPE_CHECKING:
    from edge_router.api.client import Controller
    from edge_router.catalog import ModelCard
    from edge_router.cli.chat.fetching import Fetch
    from edge_router.compile.pipeline import CompiledModel

_OBJECTS = 700  # Python's own number: what a build makes is large, however few
BUILT_ENGINES = ("auto", "tvm", "webgpu", "mlc")  # the others bring what they need


def prepare(
    session: Session, config: Config, controller: Controller, request: ChatRequest, *, yes: bool
) -> None:
    """Builds the weak model if `request` goes to it and it is not built; Ctrl-C ends that cleanly here.

    Raises `ArtifactMissing` for a no, and what a failed build raises where no strong model may step in:
    where one may, the controller meets the same error, asks it instead and says why.
    """
    try:
        if begin(session, config, controller, request.target):
            return
    except EdgeRouterError:
        return
    if controller.decision(request).model == "strong":
        return
    try:
        _allow(config, session.paths, yes=yes)
        build(config, session.paths, session.progress)
    except ArtifactMissing:  # a no
        raise
    except EdgeRouterError:
        if request.private or config.offline or request.target == "weak" or not config.has_strong:
            raise


def begin(session: Session, config: Config, controller: Controller, target: str) -> bool:
    """Begins to load what answers `target`, unless that must be built first. Raises what is wrong with it."""
    ready = is_ready(config, session.paths)
    if ready:
        controller.begin(target)
    return ready


def make_ready(
    session: Session, config: Config, *, yes: bool, before: Callable[[], object] = lambda: None
) -> None:
    """Builds the weak model if it is not built; `before` is called ahead of those minutes, and may raise.

    Raises `ConfigError` and `UnknownModel` for names that nobody knows.
    """
    check_names(config)
    if is_ready(config, session.paths):
        return
    _allow(config, session.paths, yes=yes)
    before()
    build(config, session.paths, session.progress)


def _allow(config: Config, paths: Paths, *, yes: bool) -> None:
    """That it can run and lie here; then asks whether to build, unless it is the default model.

    Raises `ArtifactMissing` for a no, `EngineUnavailable` without the device or with too little memory there,
    `DiskFull`.
    """
    check_device(config, paths)
    if config.weak.model == WeakConfig().model:
        return
    from edge_router.cli.chat.fetching import fetch_of, planned

    plan = planned(config, paths)
    fetch = None if plan is None else fetch_of(plan, paths)
    if fetch is not None:
        fetch.check(paths)
    if not (yes or _agreed(config, fetch)):
        raise ArtifactMissing(config.weak.model, "compiled library")


def check_device(config: Config, paths: Paths) -> None:
    """Before anything is fetched or compiled for it."""
    from edge_router.catalog import find_model
    from edge_router.engines import resolved
    from edge_router.vram.fitting import check_possible

    config = resolved(config)
    if config.weak.engine == "tvm":
        from edge_router.engines.tvm.device import open_device

        open_device(config.weak.device)
    elif config.weak.engine == "webgpu":
        from edge_router.engines.webgpu.adapters import adapters, choose

        choose(config.weak.device, adapters())
    check_possible(config, find_model(config.weak.model), paths)


def is_ready(config: Config, paths: Paths) -> bool:
    """Whether nothing has to be fetched or built, or nothing may be.

    Raises what is wrong with the model or its settings.
    """
    if config.weak.engine not in BUILT_ENGINES or not config.weak.build:
        return True
    try:
        _ensure(config, paths, SilentProgress(), build=False)
    except ArtifactMissing:
        return False
    return True


def weights_key(config: Config, paths: Paths) -> str:
    """Of a model that is built. Raises `ArtifactMissing`."""
    return _ensure(config, paths, SilentProgress(), build=False).weights_key


def build(config: Config, paths: Paths, progress: Progress, *, shared: bool = False) -> CompiledModel:
    """Fetches, quantizes and compiles the configured weak model, as far as that is not done.

    With `shared` into a library as MLC's runtime loads it, whatever engine is configured. The compiler warns
    of things that nobody who runs it can change.
    """
    gc.set_threshold(_OBJECTS)
    with hushed():
        return _ensure(config, paths, progress, build=True, shared=shared)


def _ensure(
    config: Config, paths: Paths, progress: Progress, *, build: bool, shared: bool = False
) -> CompiledModel:
    from edge_router.catalog import find_model
    from edge_router.compile.pipeline import BuildSettings, ensure
    from edge_router.engines import resolved

    card = find_model(config.weak.model)
    return ensure(
        card,
        BuildSettings.from_config(config if shared else resolved(config), shared=shared),
        paths=paths,
        progress=progress,
        build=build,
        offline=config.offline,
    )


def _agreed(config: Config, fetch: Fetch | None) -> bool:
    """Ask the person, if there is one."""
    from edge_router.catalog import find_model

    if not is_someone_there():
        return False
    work = _work(find_model(config.weak.model), fetch)
    return asked(f"{weak_title(config)} has to be {work}. Do that now?", default=True)


def _work(card: ModelCard, fetch: Fetch | None) -> str:
    """ "fetched from hf:a/b@main and compiled first (...)", with what that takes as far as it is known."""
    if card.source.kind == "local" or (fetch is not None and not fetch.download):
        work = "compiled first, for minutes"
    else:
        work = f"fetched from {card.source} and compiled first"
    told = "its size is not known before" if fetch is None else fetch.words()
    return f"{work} ({told})"
