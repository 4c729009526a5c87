"""The environment as far as it is meant for us: a variable that nobody reads is told, or refused."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from edge_router.config.callers import CallerConfig
from edge_router.config.misplaced import misplaced
from edge_router.config.sections import EndpointConfig, ServerConfig
from edge_router.config.variables import PREFIX, letters, named, nearest
from edge_router.errors import ConfigError, clipped
from edge_router.errors.redaction import REST, names_key
from edge_router.parsing.field_names import sounds_private
from edge_router.system.paths import HOME_VARIABLE

if TYPE_CHECKING:
    from edge_router.config.settings import Config

STAYS_HERE = "EDGE_ROUTER_OFFLINE=1 (offline = true in the file) keeps every question on this machine"
_logger = logging.getLogger(__name__)


def check_variables(
    config: Config, environment: Mapping[str, str], variables: Iterable[str], sections: Collection[str]
) -> None:
    """A variable of ours that is read by nobody is a typo; what looks like no setting at all is only said.

    `variables` are those of all settings, `sections` their sections. Raises `ConfigError`.

    Case counts as it does where programs are started: on Windows `os.environ` has all names in capitals.
    """
    others: tuple[EndpointConfig | CallerConfig, ...] = (*config.endpoints, *config.callers)
    asked = (config.questions.api_key_env, config.judge.api_key_env)
    theirs = (*filter(None, asked), *(each.api_key_env for each in others if each.api_key_env))
    servers = (config.server.api_key_env, ServerConfig().api_key_env)
    read = (HOME_VARIABLE, config.strong.api_key_env, *servers, *theirs)
    known = {letters(variable): variable for variable in (*variables, *read)}
    for variable in environment:
        name, meant = named(variable), known.get(letters(variable))
        if name is None or variable == meant:
            continue
        key = name.lower().replace("_", ".", 1)
        ours = variable.upper().startswith(PREFIX)  # else perhaps another program's
        if names_key(variable):
            if ours or meant:
                raise misplaced(key, REST, variable)
        elif meant is None and sounds_private(name):
            raise ConfigError(key, REST, f"no such key; {STAYS_HERE}", variable)
        meant = meant or (nearest(name, known.values()) if ours else None)
        if meant is not None or (ours and key.partition(".")[0] in sections):
            hint = f"; did you mean {meant}?" if meant else ""
            raise ConfigError(key, REST, f"no such key{hint}", variable)
        if ours:
            _logger.warning("nobody reads the environment variable %s", clipped(variable))
