"""Configuration: defaults < file < environment < arguments, and where each value came from.

Every key is `section.name`: in the TOML file a table and a name, in the environment
EDGE_ROUTER_SECTION_NAME, in Python `Config.load(weak={"threads": 2})` or "weak.threads" on the command line.
"""

from __future__ import annotations

import logging
import os
import re
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edge_router.config.callers import CALLERS, CallerConfig, check_callers
from edge_router.config.listed_prices import is_listed
from edge_router.config.questions import NO_ENDPOINT, QuestionsConfig, check_questions
from edge_router.config.router import LEARNED, WEAK, JudgeConfig, RouterConfig, check_router_settings
from edge_router.config.tiers import TierConfig, check_tiers
from edge_router.config.values import setting_value
from edge_router.config.variables import PREFIX, letters, named, nearest, without_links
from edge_router.errors import ConfigError, clipped
from edge_router.errors.redaction import HIDDEN, REST, is_key, may_be_key, names_key
from edge_router.parsing.field_names import sounds_private
from edge_router.parsing.sizes import Share, parse_size
from edge_router.records import dataclass
from edge_router.system.paths import HOME_VARIABLE, Paths

_MOST_THREADS = 1024  # some 10 MB each; more wait for each other longer than they compute
_STAYS_HERE = "EDGE_ROUTER_OFFLINE=1 (offline = true in the file) keeps every question on this machine"
_logger = logging.getLogger(__name__)
_hints: Callable[[Any], dict[str, Any]] = cache(typing.get_type_hints)  # a millisecond for a class


@dataclass(frozen=True, slots=True)
class WeakConfig:
    model: str = "SmolLM2-135M-Instruct"  # a model card, a folder or a file
    engine: str = "auto"
    device: str = "auto"
    quantization: str | None = None  # None: the model card's, of ready weights their own
    quantizer: str | None = None  # what makes the format's codes; None: the model card's
    activations: str = "int16"  # what a processor multiplies by weights of four bits; int8: coarser, faster
    context_window_size: int | None = None  # None: the model card's
    prefill_chunk_size: int | None = None
    sliding_window_size: int | None = None  # of every layer; None: as the model was made
    attention_sink_size: int | None = None  # of it, the tokens at the beginning that always stay
    max_sequences: int | None = None  # answers at the same time; None: up to 4, where memory has room
    speculation: bool = True  # several tokens at once where an answer repeats what was said
    vram_budget: str | None = None  # "12GiB", or "80%" of what is free; None: nearly all that is free
    unload_after_s: float | None = None  # without a question; None: the model stays loaded
    # Of the engine remote: a server on this machine, such as http://127.0.0.1:11434 or unix:/run/llama.sock;
    # None: the first at the usual ports that has the model
    base_url: str | None = None
    trusted_hosts: tuple[str, ...] = ()  # other machines that it may be on; nothing private is sent there
    api_key_env: str | None = None  # the variable that holds its key; None: it wants none
    server_timeout_s: float = 600.0  # for its next token, the model's way into its memory included
    overflow: str = "auto"  # beyond the context: escalate, window, truncate; auto: escalate, else truncate
    min_confidence: float | None = None  # a lower chance of being right: escalate before anything is shown
    tools: str = "auto"  # calls them itself: yes, no; auto: where calibrate --tools has found it good enough
    thinking: bool | None = None  # where a request does not say; None: the model card's
    end_loops: bool = True  # an answer that has come to nothing but the same, over and over
    threads: int | None = None  # None: the physical cores
    build: bool = True  # fetch and compile what is missing
    retry_load_s: float = 30.0  # a model that could not be loaded is not tried again for so long
    on_defect: str = "error"  # a mistake in the program: error, or escalate to the other model


@dataclass(frozen=True, slots=True)
class MlcConfig:
    """What only the engine mlc knows, under MLC's own names."""

    python: str | None = None  # the Python in which mlc_llm is installed; None: this one
    mode: str | None = None  # local, interactive, server; None: by weak.max_sequences
    gpu_memory_utilization: float | None = None  # of the GPU's memory, whoever uses it; None: MLC's 0.85
    load_timeout_s: float = 300.0  # a library that does not fit hangs it for ever


@dataclass(frozen=True, slots=True)
class StrongConfig:
    """The key itself is never part of the configuration: only the name of the place where it lies."""

    engine: str = "openai"
    base_url: str | None = None  # None with a model set: OpenAI's own
    model: str | None = None  # None: no strong model
    api_key_env: str = "OPENAI_API_KEY"
    keyring_service: str = "edge_router"
    timeout_s: float = 60.0  # without a token; what only keeps the connection is none
    first_token_timeout_s: float | None = None  # thoughts are tokens, too; None: timeout_s
    total_timeout_s: float = 1800.0  # of a whole answer
    connect_timeout_s: float = 5.0
    max_retries: int = 2  # within 12 s, waits included
    price_in: float | None = None  # of a million prompt tokens, in any money
    price_out: float | None = None  # of a million tokens of answers
    monthly_budget: float | None = None  # in the prices' money; raises the threshold to last the month
    hedge: bool = False  # ask a second endpoint where the first is silent for longer than it usually is
    hedge_after_ms: int | None = None  # ... or for so long
    strategy: str = "first"  # which of several endpoints is asked: first, least_busy, weighted, cheapest


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One of several that may be the strong model, `[endpoints.NAME]`. What it does not say, `[strong]` says,
    but for keys and prices, which no two share unasked."""

    name: str
    protocol: str = "openai"
    base_url: str | None = None  # None: OpenAI's own
    models: tuple[str, ...] = ()  # the first is asked where nobody names another
    api_key_env: str | None = None  # None: no key is sent, to OpenAI's own address that of OPENAI_API_KEY
    price_in: float | None = None  # of a million prompt tokens
    price_out: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None  # questions at once
    weight: float = 1.0  # its share, for the strategies weighted and least_busy; 0: only in need
    tags: tuple[str, ...] = ()  # names that several may share, for requests and rules


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """What must not reach the strong model. Each kind: allow, redact (it is hidden there, and put back into
    the answer) or local (the question stays here); None: as the level says."""

    # off; standard: keys, card numbers and IBANs stay here; strict: the others are hidden, too
    level: str = "standard"
    secrets: str | None = None  # keys, tokens, passwords
    cards: str | None = None
    ibans: str | None = None
    emails: str | None = None
    phones: str | None = None
    paths: str | None = None  # the home folder of this machine
    hosts: str | None = None  # the name of this machine


@dataclass(frozen=True, slots=True)
class RulesConfig:
    file: str | None = None  # None: rules.toml beside the user's own configuration file, where there is one


@dataclass(frozen=True, slots=True)
class ServerConfig:
    host: str = "127.0.0.1"
    port: int = 6060
    ollama_port: int | None = None  # listened on, too: 11434 is where Ollama's clients look
    api_key_env: str = "EDGE_ROUTER_API_KEY"
    allowed_hosts: tuple[str, ...] = ()  # beside localhost, 127.0.0.1 and [::1]
    # Pages and desktop shells that may call, such as app://obsidian.md or tauri://*; CORS is off without
    allowed_origins: tuple[str, ...] = ()
    resident: bool = (
        False  # edge-router chat of this user, with the same settings, is answered by this server
    )


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    enabled: bool = True
    store_prompts: bool = False
    # What the weak model answered only for want of the strong one, where prompts are stored: kept whole, for
    # edge-router upgrade to ask again (ask), or as soon as the strong one answers again (auto); off: not kept
    upgrade: str = "ask"


@dataclass(frozen=True, slots=True)
class ResponseCacheConfig:
    """Answers that are given again to who asks the same."""

    mode: str = "off"  # memory: until the program ends; disk: in a file that only its user may read
    max_age_s: float = 604_800.0  # a week
    max_size: str = "100MB"  # what was asked for the longest ago goes first
    sampled: bool = False  # also answers drawn at random: no temperature, or one above 0
    tools: bool = False  # also answers that may call tools
    similarity: float | None = None  # also to who asks nearly the same; see calibrate --cache


@dataclass(frozen=True, slots=True)
class SessionsConfig:
    """Conversations that stay with their model. Nothing of what they say is kept, only keyed hashes of it."""

    enabled: bool = True  # results of tools go to the model that made the call; see stickiness for the rest
    # How much what a switch has to read again counts against it; 0: not at all, only results of tools bind
    stickiness: float = 1.0
    ttl_s: float = 3600.0  # since its last answer
    max_fingerprints: int = 20_000  # two or more of each answer, some 200 bytes each; the oldest go first


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
        _check(config)
        _check_variables(config, environment)
        return config

    def origin(self, key: str) -> str:
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
        named = ((table, each.name) for table in _NAMED for each in self.named(table))
        return (*keys(), *(f"{table}.{one}.{name}" for table, one in named for name in _NAMED[table].hints))

    def named(self, table: str) -> tuple[EndpointConfig | CallerConfig, ...]:
        """All of `endpoints`, or of `callers`."""
        return typing.cast("tuple[EndpointConfig | CallerConfig, ...]", getattr(self, table))

    def get(self, key: str) -> object:
        if (of := _of_named(key)) is not None:
            held = next((each for each in self.named(of.table) if each.name == of.one), None)
            return getattr(held or _NAMED[of.table].kind(of.one), of.field)
        section, _, name = key.rpartition(".")
        return getattr(getattr(self, section) if section else self, name)

    def replace(self, **overrides: object) -> Config:
        """A copy with some values changed: `config.replace(**{"weak.threads": 2})`."""
        config = self
        for key, value in overrides.items():
            config = _with(config, key, value, "argument")
        config = replace(config, origins={**self.origins, **dict.fromkeys(overrides, "argument")})
        _check(config)
        return config


ENDPOINTS = "endpoints"


@dataclass(frozen=True, slots=True)
class _Table:
    """Tables that the user names: `[endpoints.NAME]`. `hints` are the types of their settings."""

    kind: type[EndpointConfig] | type[CallerConfig]
    has: str  # what such a table should hold, for errors

    @property
    def hints(self) -> dict[str, Any]:
        found = _hints(self.kind)
        return {name: hint for name, hint in found.items() if name != "name"}


class _Place(typing.NamedTuple):
    table: str
    one: str
    field: str


_NAMED = {
    ENDPOINTS: _Table(EndpointConfig, "models = [...]"),
    CALLERS: _Table(CallerConfig, "api_key_env or key_hash"),
}
_TAKEN = ("auto", "weak", "strong")  # names that a request's model has already


def keys() -> tuple[str, ...]:
    """Every key but those of endpoints and callers, in the order of the classes above."""
    found: list[str] = []
    for item in fields(Config):
        section = _sections().get(item.name)
        if section is not None:
            found += [f"{item.name}.{inner.name}" for inner in fields(section)]
        elif item.name not in ("origins", *_NAMED):
            found.append(item.name)
    return tuple(found)


def is_known(key: str) -> bool:
    """Whether there is such a key, of an endpoint's or a caller's whatever its name."""
    of = _of_named(key)
    return key in keys() if of is None else of.field in _NAMED[of.table].hints


def converted(key: str, value: object) -> object:
    """`value` as a key takes it, whatever else is set. Raises `ConfigError`."""
    return _with(Config(), key, value, "argument").get(key)


def is_of_named(key: str) -> bool:
    """Whether it is in a table that the user names, such as `[endpoints.NAME]`."""
    return key.partition(".")[0] in _NAMED


def _of_named(key: str) -> _Place | None:
    """Where in such a table a key is; None for others."""
    table, _, rest = key.partition(".")
    one, dot, field_name = rest.rpartition(".")
    return _Place(table, one, field_name) if table in _NAMED and dot else None


def variable_of(key: str) -> str:
    return PREFIX + key.replace(".", "_").upper()


def _sections() -> dict[str, Any]:
    hints = _hints(Config)
    return {name: hint for name, hint in hints.items() if hasattr(hint, "__dataclass_fields__")}


def read_text(path: Path) -> str:
    """What a configuration file says, also one that an editor began with a byte order mark.

    Raises `ConfigError`.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("file", str(path), f"not valid TOML: {error}", str(path)) from error
    except OSError as error:
        raise ConfigError("file", str(path), f"cannot be read: {error.strerror}", str(path)) from error


def flat(text: str, source: str) -> dict[str, object]:
    """The values of such a text by their keys. Raises `ConfigError`, which names `source`."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of a number of 5000 digits, of deep nesting
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError("file", source, f"not valid TOML: {reason}", source) from error
    found: dict[str, object] = {}
    for name, value in data.items():
        if name in _NAMED and isinstance(value, dict):
            for one, settings in value.items():
                inside = isinstance(settings, dict) and settings
                found |= (
                    {f"{name}.{one}.{inner}": item for inner, item in settings.items()}
                    if inside
                    else {f"{name}.{one}": settings}
                )
        elif isinstance(value, dict):
            found |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            found[name] = value
    return found


def _with(config: Config, key: str, value: object, source: str) -> Config:
    if not is_known(key):
        if is_of_named(key) and key.count(".") == 1:
            has = _NAMED[key.partition(".")[0]].has
            raise ConfigError(key, value, f"must be a table, [{key}], with {has} in it", source)
        if names_key(key) or is_key(key) or (isinstance(value, str) and is_key(value)):
            raise _misplaced(key, value, source)
        import difflib

        if sounds_private(key.rpartition(".")[2]):
            raise ConfigError(key, value, f"no such key; {_STAYS_HERE}", source)
        own = _of_named(key)
        known = (
            keys() if own is None else [f"{own.table}.{own.one}.{name}" for name in _NAMED[own.table].hints]
        )
        near = difflib.get_close_matches(key, known, n=1)
        raise ConfigError(key, value, f"no such key{f'; did you mean {near[0]}?' if near else ''}", source)
    if (of := _of_named(key)) is not None:
        return _with_named(config, of, setting_value(key, value, _NAMED[of.table].hints[of.field], source))
    section, _, name = key.rpartition(".")
    if not section:
        return _replaced(config, name, setting_value(key, value, _hints(Config)[name], source))
    holder = getattr(config, section)
    hint = _hints(type(holder))[name]
    return _replaced(config, section, _replaced(holder, name, setting_value(key, value, hint, source)))


def _with_named(config: Config, of: _Place, value: object) -> Config:
    held = config.named(of.table)
    if all(each.name != of.one for each in held):
        held = (*held, _NAMED[of.table].kind(of.one))
    changed = (_replaced(each, of.field, value) if each.name == of.one else each for each in held)
    return _replaced(config, of.table, tuple(changed))


_Section = typing.TypeVar("_Section")


def _replaced(holder: _Section, name: str, value: object) -> _Section:
    """`dataclasses.replace` for a name that is only known at run time."""
    return typing.cast(_Section, replace(typing.cast(Any, holder), **{name: value}))


def _misplaced(key: str, value: object, source: str) -> ConfigError:
    """A key of some service stands in the configuration, where it would be shown, kept and copied."""
    section = ServerConfig if key.startswith("server.") else StrongConfig
    keyring = "" if section is ServerConfig else " or into the system's keyring"
    place = f"put it into the environment variable {section().api_key_env}{keyring}"
    if (of := _of_named(key)) is not None:
        ways = f", or run `edge-router keys new {of.one}`" if of.table == CALLERS else keyring
        place = f"put it into a variable that {of.table}.{of.one}.api_key_env names{ways}"
    reason = f"no key belongs into the configuration: {place}"
    return ConfigError(key, value, reason, source, misplaced_key=True)


def _check_keys(config: Config) -> None:
    """No setting holds a key."""
    for key in config.every_key():
        value = config.get(key)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and any(map(is_key, (text, *_place(text)))):
                raise _misplaced(key, HIDDEN, config.origin(key))
        if key.endswith(".api_key_env") and value and not _is_variable(str(value)):
            reason = "must be the name of the environment variable that holds the key, not the key itself"
            raise ConfigError(key, REST, reason, config.origin(key), misplaced_key=True)


def _place(text: str) -> list[str]:
    """The parts of an address that are shown wherever it is told of: its host and its path."""
    _, separator, rest = text.partition("://")
    return re.split(r"[/.:]", re.split(r"[?#]", rest, maxsplit=1)[0].rpartition("@")[2]) if separator else []


def _is_variable(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None and not may_be_key(name)


def _check_variables(config: Config, environment: Mapping[str, str]) -> None:
    """A variable of ours that is read by nobody is a typo; what looks like no setting at all is only said.

    Case counts as it does where programs are started: on Windows `os.environ` has all names in capitals.
    """
    others: tuple[EndpointConfig | CallerConfig, ...] = (*config.endpoints, *config.callers)
    asked = (config.questions.api_key_env, config.judge.api_key_env)
    theirs = (*filter(None, asked), *(each.api_key_env for each in others if each.api_key_env))
    servers = (config.server.api_key_env, ServerConfig().api_key_env)
    read = (HOME_VARIABLE, config.strong.api_key_env, *servers, *theirs)
    known = {letters(variable): variable for variable in (*map(variable_of, keys()), *read)}
    for variable in environment:
        name, meant = named(variable), known.get(letters(variable))
        if name is None or variable == meant:
            continue
        key = name.lower().replace("_", ".", 1)
        ours = variable.upper().startswith(PREFIX)  # else perhaps another program's
        if names_key(variable):
            if ours or meant:
                raise _misplaced(key, REST, variable)
        elif meant is None and sounds_private(name):
            raise ConfigError(key, REST, f"no such key; {_STAYS_HERE}", variable)
        meant = meant or (nearest(name, known.values()) if ours else None)
        if meant is not None or (ours and key.partition(".")[0] in _sections()):
            hint = f"; did you mean {meant}?" if meant else ""
            raise ConfigError(key, REST, f"no such key{hint}", variable)
        if ours:
            _logger.warning("nobody reads the environment variable %s", clipped(variable))


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _check(config: Config) -> None:
    _check_keys(config)

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
    one_of("weak.tools", "auto", "yes", "no")
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
    most, set_by = config.response_cache.max_size, config.origin("response_cache.max_size")
    relative = isinstance(parse_size(most, key="response_cache.max_size", source=set_by), Share)
    require("response_cache.max_size", not relative, "must be an amount such as 100MB")
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


def _check_endpoints(config: Config, require: Callable[[str, bool, str], None]) -> None:
    strategies = ("first", "least_busy", "weighted", "cheapest")
    strategy = config.strong.strategy
    require("strong.strategy", strategy in strategies, f"must be one of {', '.join(strategies)}")
    for each in config.endpoints:
        at = f"{ENDPOINTS}.{each.name}"
        named = re.fullmatch(r"[A-Za-z0-9_-]{1,40}", each.name) and each.name not in _TAKEN
        plain = "an endpoint's name is made of letters, digits, - and _, and is not one of "
        require(f"{at}.models", bool(named), plain + ", ".join(_TAKEN))
        require(f"{at}.models", bool(each.models) and all(each.models), "must name the models to ask it for")
        for key, names in (("models", each.models), ("tags", each.tags)):
            meant = not any(name in _TAKEN or name.startswith("router-") for name in names)
            require(f"{at}.{key}", meant, f"none may be called {', '.join(_TAKEN)} or router-...")
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
