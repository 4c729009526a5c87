"""Configuration: defaults < file < environment < arguments, and where each value came from.

Every key is `section.name`: in the TOML file a table and a name, in the environment
EDGE_ROUTER_SECTION_NAME, in Python `Config.load(weak={"threads": 2})` or "weak.threads" on the command line.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Any

from edge_router.config.callers import CallerConfig
from edge_router.config.checks import check_values
from edge_router.config.environment import STAYS_HERE, check_variables
from edge_router.config.file import flat, read_text
from edge_router.config.misplaced import misplaced
from edge_router.config.named_tables import NAMED_TABLES, NamedKey, hints_of, is_of_named, of_named
from edge_router.config.questions import NO_ENDPOINT, QuestionsConfig
from edge_router.config.router import LEARNED, WEAK, JudgeConfig, RouterConfig
from edge_router.config.sections import (
    EndpointConfig,
    GuardConfig,
    LedgerConfig,
    MlcConfig,
    ResponseCacheConfig,
    RulesConfig,
    ServerConfig,
    SessionsConfig,
    StrongConfig,
    WeakConfig,
)
from edge_router.config.tiers import TierConfig
from edge_router.config.values import setting_value
from edge_router.config.variables import variable_of, without_links
from edge_router.errors import ConfigError
from edge_router.errors.redaction import is_key, names_key
from edge_router.parsing.field_names import sounds_private
from edge_router.records import dataclass
from edge_router.system.paths import Paths


@dataclass(frozen=True, slots=True)
class Config:
    """All settings. Build it with `Config.load`; `origin("weak.threads")` says where a value came from."""

    offline: bool = False  # never use the network: no strong model, no fetching
    tiers: tuple[TierConfig, ...] = ()  # more than two models; (): weak and strong, by router.threshold
    router: RouterConfig = LEARNED
    weak: WeakConfig = WeakConfig()
    mlc: MlcConfig = MlcConfig()
    strong: StrongConfig = StrongConfig()
    questions: QuestionsConfig = NO_ENDPOINT
    judge: JudgeConfig = WEAK
    guard: GuardConfig = GuardConfig()
    rules: RulesConfig = RulesConfig()
    server: ServerConfig = ServerConfig()
    ledger: LedgerConfig = LedgerConfig()
    response_cache: ResponseCacheConfig = ResponseCacheConfig()
    sessions: SessionsConfig = SessionsConfig()
    endpoints: tuple[EndpointConfig, ...] = ()  # in the order of the file
    callers: tuple[CallerConfig, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(
        cls,
        file: Path | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> Config:
        """Defaults, then `file` (the user's own if None, which need not exist), the environment, `overrides`.

        `overrides` maps "section.name" to a value; None means "not given". Raises `ConfigError`.
        """
        layers: list[tuple[str, Mapping[str, object]]] = []
        path = file or Paths.default().config_file
        if file is not None or path.is_file():
            layers.append((str(path), flat(read_text(path), str(path))))
        environment = without_links(os.environ if environ is None else environ)
        for key in keys():
            variable = variable_of(key)
            if variable in environment:
                layers.append((variable, {key: environment[variable]}))
        given = {key: value for key, value in (overrides or {}).items() if value is not None}
        layers.append(("argument", given))
        config, origins = cls(), dict[str, str]()
        for source, values in layers:
            for key, value in values.items():
                config = _with(config, key, value, source)
                origins[key] = source
        config = replace(config, origins=origins)
        check_values(config)
        check_variables(config, environment, map(variable_of, keys()), _sections())
        return config

    def origin(self, key: str) -> str:
        """Where a value came from: a file, a variable, "argument" or "default"."""
        return self.origins.get(key, "default")

    @property
    def has_strong(self) -> bool:
        """Whether there is a strong model, be it one of several endpoints."""
        return self.strong.model is not None or bool(self.endpoints)

    @property
    def strong_title(self) -> str | None:
        """The strong models as people say it."""
        own = () if self.strong.model is None else (self.strong.model,)
        return ", ".join((*own, *(f"{each.models[0]} at {each.name}" for each in self.endpoints))) or None

    @property
    def strong_names(self) -> tuple[str, ...]:
        """What a request may name to ask for the strong model, or for some of its endpoints."""
        own = () if self.strong.model is None else (self.strong.model,)
        theirs = (name for each in self.endpoints for name in (each.name, *each.models, *each.tags))
        return tuple(dict.fromkeys((*own, *theirs)))

    @property
    def is_budgeted(self) -> bool:
        """Whether money for the strong model is counted, for all together or for a caller."""
        return self.strong.monthly_budget is not None or any(each.is_budgeted for each in self.callers)

    def every_key(self) -> tuple[str, ...]:
        """Every key, those of the endpoints and callers that there are included."""
        named = ((table, each.name) for table in NAMED_TABLES for each in self.named(table))
        return (
            *keys(),
            *(f"{table}.{one}.{name}" for table, one in named for name in NAMED_TABLES[table].hints),
        )

    def named(self, table: str) -> tuple[EndpointConfig | CallerConfig, ...]:
        """All of `endpoints`, or of `callers`."""
        return typing.cast("tuple[EndpointConfig | CallerConfig, ...]", getattr(self, table))

    def get(self, key: str) -> object:
        """The value of a key, "weak.threads"."""
        if (of := of_named(key)) is not None:
            held = next((each for each in self.named(of.table) if each.name == of.one), None)
            return getattr(held or NAMED_TABLES[of.table].kind(of.one), of.field)
        section, _, name = key.rpartition(".")
        return getattr(getattr(self, section) if section else self, name)

    def replace(self, **overrides: object) -> Config:
        """A copy with some values changed: `config.replace(**{"weak.threads": 2})`."""
        config = self
        for key, value in overrides.items():
            config = _with(config, key, value, "argument")
        config = replace(config, origins={**self.origins, **dict.fromkeys(overrides, "argument")})
        check_values(config)
        return config


def keys() -> tuple[str, ...]:
    """Every key but those of endpoints and callers, in the order of the classes above."""
    found: list[str] = []
    for item in fields(Config):
        section = _sections().get(item.name)
        if section is not None:
            found += [f"{item.name}.{inner.name}" for inner in fields(section)]
        elif item.name not in ("origins", *NAMED_TABLES):
            found.append(item.name)
    return tuple(found)


def is_known(key: str) -> bool:
    """Whether there is such a key, of an endpoint's or a caller's whatever its name."""
    of = of_named(key)
    return key in keys() if of is None else of.field in NAMED_TABLES[of.table].hints


def converted(key: str, value: object) -> object:
    """`value` as a key takes it, whatever else is set. Raises `ConfigError`."""
    return _with(Config(), key, value, "argument").get(key)


def _sections() -> dict[str, Any]:
    hints = hints_of(Config)
    return {name: hint for name, hint in hints.items() if hasattr(hint, "__dataclass_fields__")}


def _with(config: Config, key: str, value: object, source: str) -> Config:
    if not is_known(key):
        if is_of_named(key) and key.count(".") == 1:
            has = NAMED_TABLES[key.partition(".")[0]].has
            raise ConfigError(key, value, f"must be a table, [{key}], with {has} in it", source)
        if names_key(key) or is_key(key) or (isinstance(value, str) and is_key(value)):
            raise misplaced(key, value, source)
        import difflib

        if sounds_private(key.rpartition(".")[2]):
            raise ConfigError(key, value, f"no such key; {STAYS_HERE}", source)
        own = of_named(key)
        known = (
            keys()
            if own is None
            else [f"{own.table}.{own.one}.{name}" for name in NAMED_TABLES[own.table].hints]
        )
        cut = {
            name[: len(key)]: name for name in reversed(known)
        }  # a long name may be known by its beginning
        near = difflib.get_close_matches(key, [*known, *cut], n=1)
        meant = f"; did you mean {cut.get(near[0], near[0])}?" if near else ""
        raise ConfigError(key, value, f"no such key{meant}", source)
    if (of := of_named(key)) is not None:
        return _with_named(
            config, of, setting_value(key, value, NAMED_TABLES[of.table].hints[of.field], source)
        )
    section, _, name = key.rpartition(".")
    if not section:
        return _replaced(config, name, setting_value(key, value, hints_of(Config)[name], source))
    holder = getattr(config, section)
    hint = hints_of(type(holder))[name]
    return _replaced(config, section, _replaced(holder, name, setting_value(key, value, hint, source)))


def _with_named(config: Config, of: NamedKey, value: object) -> Config:
    held = config.named(of.table)
    if all(each.name != of.one for each in held):
        held = (*held, NAMED_TABLES[of.table].kind(of.one))
    changed = (_replaced(each, of.field, value) if each.name == of.one else each for each in held)
    return _replaced(config, of.table, tuple(changed))


_Section = typing.TypeVar("_Section")


def _replaced(holder: _Section, name: str, value: object) -> _Section:
    """`dataclasses.replace` for a name that is only known at run time."""
    return typing.cast(_Section, replace(typing.cast(Any, holder), **{name: value}))
