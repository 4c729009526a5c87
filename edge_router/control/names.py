"""Names in the configuration that only other parts know: engines, devices, models, formats, routers.

A typo there must be told at once. It would look like a weak model that cannot be had, and send every
question to the strong one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping

from edge_router import plugins
from edge_router.architectures.quantization import QUANTIZATIONS
from edge_router.callers.allowed import Allowed
from edge_router.catalog import LocalSource, find_model, is_here, parse_source
from edge_router.catalog.cards import QUANTIZERS
from edge_router.config.callers import CALLERS
from edge_router.config.settings import Config
from edge_router.control.policy import Names, parse_model
from edge_router.engines import strong_engines, weak_engines
from edge_router.engines.choice import DEVICES, SERVED
from edge_router.engines.local_server.servers import TITLES
from edge_router.errors import ConfigError, InvalidInput

_SERVERS: Mapping[str, str] = dict(TITLES.items())
_NUMBER = re.compile(r"\d+|sm_\d+[a-z]?")  # which of several, or what to compile for


def check_names(config: Config, *, weak: bool = True, strong: bool = True) -> None:
    """Of the weak and the strong model, as far as the configuration is what names them.

    Raises `ConfigError`, `UnknownModel`, and `InvalidModel` for what is no way to write a model. What an
    engine of another package takes is that package's business.
    """
    if strong:
        _check(config, "strong.engine", (*strong_engines(), *plugins.names(plugins.STRONG_ENGINES)))
    if not weak:
        return
    engine, own = config.weak.engine, weak_engines()
    if engine != "auto" and engine not in own:
        known = ("auto", *own, *plugins.names(plugins.WEAK_ENGINES))
        if engine not in known and engine.lower() in _SERVERS:
            raise _error(config, "weak.engine", f"did you mean {SERVED}? It asks {_SERVERS[engine.lower()]}")
        _check(config, "weak.engine", known)
        return
    _check_device(config)
    if config.weak.quantization is not None:
        _check(config, "weak.quantization", QUANTIZATIONS)
    if config.weak.quantizer is not None:
        _check(config, "weak.quantizer", QUANTIZERS)
    if engine in DEVICES:
        _check_model(config)
    elif engine == SERVED and not config.weak.model.strip():
        raise _error(config, "weak.model", "must be the name of a model, as its server has it")


def check_router(config: Config, known: Iterable[str]) -> None:
    """Raises `ConfigError`."""
    _check(config, "router.name", tuple(known))


def check_callers(config: Config, names: Names, others: Callable[[], Collection[str]]) -> None:
    """Of the models that callers may use; `others` are no models for chats. Raises `ConfigError`."""
    for each in config.callers:
        for model in each.models:
            try:
                parse_model(model, names)
            except InvalidInput as error:
                if model not in others():
                    raise _error(config, f"{CALLERS}.{each.name}.models", str(error)) from error
        if each.model is None:
            continue
        key = f"{CALLERS}.{each.name}.model"
        try:
            parse_model(each.model, names)
        except InvalidInput as error:
            raise _error(config, key, str(error)) from error
        if not Allowed(each.models, names.weak, names.strong).permits(each.model):
            raise _error(config, key, f"must be one that {CALLERS}.{each.name}.models has")


def _check_device(config: Config) -> None:
    engine, (name, colon, number) = config.weak.engine, config.weak.device.partition(":")
    known = DEVICES.get(engine, DEVICES["auto"])
    if colon and not _NUMBER.fullmatch(number):
        raise _error(config, "weak.device", f"after the colon comes a number, as in {name}:0")
    if name not in known:
        if name.lower() == "gpu":
            raise _error(config, "weak.device", "auto takes the GPU that is here; " + _hint("", known))
        others = name in DEVICES["auto"]
        driven = f"the engine {engine} drives no {name}: it " if others else ""
        raise _error(config, "weak.device", driven + _hint(name, known))


def _check_model(config: Config) -> None:
    name = config.weak.model
    if not name.strip():
        raise _error(config, "weak.model", "must be the name of a model")
    source = parse_source(name)
    if not (isinstance(source, LocalSource) and is_here(source.path)):
        find_model(name)


def _check(config: Config, key: str, known: Collection[str]) -> None:
    value = str(config.get(key))
    if value not in known:
        raise _error(config, key, _hint(value, known))


def _hint(value: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(value.lower(), known, n=1)
    maybe = f"did you mean {near[0]}? It " if near else ""
    return f"{maybe}must be one of {', '.join(known)}"


def _error(config: Config, key: str, reason: str) -> ConfigError:
    return ConfigError(key, config.get(key), reason, config.origin(key))
