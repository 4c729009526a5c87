"""Defaults < file < environment < arguments, and complaints that name key, value and source."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table import each

from edge_router.config.settings import Config, keys
from edge_router.config.variables import variable_of
from edge_router.errors import ConfigError
from edge_router.system.paths import Paths

KEY = "sk-proj-" + "aB3" * 8


def write(folder: Path, text: str) -> Path:
    file = folder / "settings.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "settings",
    [
        {"strong.monthly_budget": 5.0},
        {"strong.monthly_budget": -1.0, "strong.price_in": 1.0},
        {"strong.monthly_budget": 5.0, "strong.price_in": 1.0, "router.strong_share": 0.2},
        {"strong.price_out": float("inf")},
    ],
)
def test_money_that_cannot_be_counted(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"strong\.(monthly_budget|price_out)"):
        Config().replace(**settings)


def test_each_layer_covers_the_one_before(tmp_path: Path) -> None:
    file = write(tmp_path, "[weak]\nthreads = 3\nmodel = 'A'\n[server]\nport = 7000\n")
    environment = {"EDGE_ROUTER_WEAK_MODEL": "B", "EDGE_ROUTER_SERVER_PORT": "7001"}
    config = Config.load(file, environ=environment, overrides={"server.port": 7002, "weak.device": None})
    assert (config.weak.threads, config.weak.model, config.server.port) == (3, "B", 7002)
    assert config.origin("weak.threads") == str(file)
    assert config.origin("weak.model") == "EDGE_ROUTER_WEAK_MODEL"
    assert config.origin("server.port") == "argument"
    assert config.origin("weak.device") == "default"


def test_the_users_own_file_is_read_where_it_lies(home: Path) -> None:
    assert Config.load(environ={}) == Config()
    Paths.default().config_file.write_text("offline = true\n", encoding="utf-8")
    assert Config.load(environ={}).offline is True


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[weak]\nthreads = 0\n", "weak.threads"),
        ("[weak]\nthreads = 'many'\n", "weak.threads"),
        ("[weak]\nthreads = 1.5\n", "weak.threads"),
        ("[weak]\nthreads = true\n", "weak.threads"),
        ("[router]\nthreshold = 1.5\n", "router.threshold"),
        ("[router]\nthreshold = nan\n", "router.threshold"),
        ("[server]\nport = 99999\n", "server.port"),
        ("[server]\nollama_port = 0\n", "server.ollama_port"),
        ("[server]\nport = 11434\nollama_port = 11434\n", "server.ollama_port"),
        ("[server]\nallowed_hosts = [1]\n", "server.allowed_hosts"),
        ("[strong]\nbase_url = 'ftp://x'\n", "strong.base_url"),
        ("offline = 'perhaps'\n", "offline"),
        ("weak = 3\n", "weak"),
        ("[weak]\nthreads = inf\n", "weak.threads"),
        ("[weak]\nthreads = 1e400\n", "weak.threads"),
        ("[weak\n", "file"),
        (f"x = {'[' * 3000}{']' * 3000}\n", "file"),
        (f"x = {'9' * 6000}\n", "file"),
    ],
)
def test_a_bad_value_is_named_with_its_source(tmp_path: Path, text: str, key: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        Config.load(file, environ={})
    assert caught.value.key == key
    assert caught.value.source == str(file)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_byte_order_mark_is_no_mistake(tmp_path: Path, ends: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xef\xbb\xbf" + f"[weak]{ends}threads = 3{ends}".encode())
    assert Config.load(file, environ={}).weak.threads == 3


def test_a_mistyped_key_brings_the_right_one() -> None:
    with pytest.raises(ConfigError, match=r"weak\.threads"):
        Config.load(environ={}, overrides={"weak.thread": 2})


def test_a_file_that_is_not_there_is_an_error_only_when_it_was_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Config.load(tmp_path / "absent.toml", environ={})


def test_strings_from_the_environment_become_what_the_key_is() -> None:
    environment = {
        "EDGE_ROUTER_OFFLINE": "yes",
        "EDGE_ROUTER_ROUTER_THRESHOLD": "0.25",
        "EDGE_ROUTER_SERVER_ALLOWED_HOSTS": "a.local, b.local",
        "EDGE_ROUTER_WEAK_THREADS": "",
    }
    config = Config.load(environ=environment)
    assert config.offline is True
    assert config.router.threshold == 0.25
    assert config.server.allowed_hosts == ("a.local", "b.local")
    assert config.weak.threads is None


def test_a_copy_with_changes_leaves_the_original() -> None:
    config = Config()
    changed = config.replace(**{"weak.threads": 2})
    assert (config.weak.threads, changed.weak.threads) == (None, 2)
    assert changed.origin("weak.threads") == "argument"
    with pytest.raises(ConfigError):
        config.replace(**{"weak.threads": -1})


def test_every_key_has_a_variable_of_its_own() -> None:
    assert len({variable_of(key) for key in keys()}) == len(keys())
    assert all(Config().get(key) == Config().get(key) for key in keys())


@given(st.sampled_from(keys()), st.text(max_size=20))
def test_any_string_for_any_key_is_taken_or_refused_clearly(key: str, text: str) -> None:
    try:
        Config.load(environ={variable_of(key): text})
    except ConfigError as error:
        assert error.key == key
        assert error.source == variable_of(key)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("EDGE_ROUTER_WEAK_THREAD", "EDGE_ROUTER_WEAK_THREADS"),
        ("EDGE_ROUTER_WEAK_MODLE", "EDGE_ROUTER_WEAK_MODEL"),
        ("EDGE_ROUTER_STRONG_URL", None),
        ("EDGE_ROUTER_ROUTER_TRESHOLD", "EDGE_ROUTER_ROUTER_THRESHOLD"),
        ("EDGE_ROUTER_OFLINE", "EDGE_ROUTER_OFFLINE"),
        ("EDGE_ROUTER_HOMES", "EDGE_ROUTER_HOME"),
        ("EDGE_ROUTER_MODEL", "EDGE_ROUTER_WEAK_MODEL"),
        ("EDGE_ROUTER_PORT", "EDGE_ROUTER_SERVER_PORT"),
        ("EDGE_ROUTER_LEDGER_", None),
        ("EDGE_ROUTER_weak_threads", "EDGE_ROUTER_WEAK_THREADS"),
        ("edge_router_weak_threads", "EDGE_ROUTER_WEAK_THREADS"),
        ("Edge_Router_Weak_Threads", "EDGE_ROUTER_WEAK_THREADS"),
        ("EDGE_ROUTER_weak_thread", "EDGE_ROUTER_WEAK_THREADS"),
        ("EDGE_ROUTER__WEAK__THREADS", "EDGE_ROUTER_WEAK_THREADS"),
        ("EDGE_ROUTER.weak.threads", "EDGE_ROUTER_WEAK_THREADS"),
        ("EDGE-ROUTER-OFFLINE", "EDGE_ROUTER_OFFLINE"),
        ("EDGEROUTER_OFFLINE", "EDGE_ROUTER_OFFLINE"),
        ("EDGE_ROUTEROFFLINE", "EDGE_ROUTER_OFFLINE"),
        ("edge_router_offline", "EDGE_ROUTER_OFFLINE"),
        ("edge_router_home", "EDGE_ROUTER_HOME"),
        ("EDGE_ROUTER_Strong_Timeout_S", "EDGE_ROUTER_STRONG_TIMEOUT_S"),
    ],
)
def test_a_variable_that_is_read_by_nobody_is_a_typo(variable: str, meant: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(environ={variable: "my secret value"})
    assert caught.value.source == variable and "my secret value" not in str(caught.value)
    if meant is not None:
        assert f"did you mean {meant}?" in caught.value.reason


@pytest.mark.parametrize(
    "name",
    [
        *("PRIVATE", "private", "PRIVACY", "PRIVAT", "PRIVATE_ONLY", "CONFIDENTIAL", "IS_PRIVATE"),
        *("LOCAL_ONLY", "WEAK_ONLY", "NO_CLOUD", "NO_STRONG", "NO_NETWORK", "ON_DEVICE"),
    ],
)
def test_what_sounds_like_privacy_is_never_passed_over(name: str) -> None:
    offers = "EDGE_ROUTER_OFFLINE=1"
    with pytest.raises(ConfigError, match=offers):
        Config.load(environ={f"EDGE_ROUTER_{name}": "1"})
    for key in (name.lower(), f"weak.{name.lower()}", f"strong.{name.lower()}"):
        with pytest.raises(ConfigError, match=offers):
            Config.load(environ={}, overrides={key: "1"})


@pytest.mark.parametrize(
    "variable",
    [
        "EDGEROUTER_ADDRESS",
        "EDGEROUTERS_HOST",
        "EDGEROUTER_PRIVATE_KEY",
        "EDGE_ROUTER_HOME",
        "EDGE_ROUTER_API_KEY",
        "PATH",
        "_EDGE_ROUTER_COMPLETE",
        "EDGE_ROUTERS",
        "MY_EDGE_ROUTER_X",
    ],
)
def test_other_variables_are_none_of_its_business(variable: str, caplog: pytest.LogCaptureFixture) -> None:
    assert Config.load(environ={variable: "x"}) == Config()
    assert caplog.records == []


def test_a_variable_that_looks_like_no_setting_is_only_told(caplog: pytest.LogCaptureFixture) -> None:
    assert Config.load(environ={"EDGE_ROUTER_IMAGE_TAG": "x"}) == Config()
    assert "EDGE_ROUTER_IMAGE_TAG" in caplog.text
    named = {"EDGE_ROUTER_SECRETS": "x", "EDGE_ROUTER_SERVER_API_KEY_ENV": "EDGE_ROUTER_SECRETS"}
    caplog.clear()
    Config.load(environ=named)
    assert caplog.records == []


def test_what_a_cluster_tells_of_a_service_of_our_name_is_no_setting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for service in ("", "_SERVER", "_WEAK", "_WEB_UI", "_SERVER_OLLAMA"):
        variables = {
            f"EDGE_ROUTER{service}_{name}": value
            for name, value in {
                "SERVICE_HOST": "10.0.0.7",
                "SERVICE_PORT": "6060",
                "SERVICE_PORT_HTTP": "6060",
                "PORT": "tcp://10.0.0.7:6060",
                "PORT_6060_TCP": "tcp://10.0.0.7:6060",
                "PORT_6060_TCP_PROTO": "tcp",
                "PORT_6060_TCP_PORT": "6060",
                "PORT_6060_TCP_ADDR": "10.0.0.7",
                "PORT_53_UDP_ADDR": "10.0.0.7",
            }.items()
        }
        for variable, value in variables.items():
            assert Config.load(environ={variable: value}) == Config(), variable
        assert Config.load(environ={**variables, "EDGE_ROUTER_WEAK_THREADS": "2"}).weak.threads == 2
    assert caplog.records == []
    assert Config.load(environ={"EDGE_ROUTER_SERVER_PORT": "6061"}).server.port == 6061
    with pytest.raises(ConfigError, match="did you mean EDGE_ROUTER_SERVER_PORT"):
        Config.load(environ={"EDGE_ROUTER_PORT": "6061"})


@pytest.mark.parametrize("value", ["12", "12.5", "0", "1e9", "12 bananas"])
def test_an_amount_of_memory_needs_a_unit(value: str) -> None:
    with pytest.raises(ConfigError, match=r"weak\.vram_budget"):
        Config.load(environ={"EDGE_ROUTER_WEAK_VRAM_BUDGET": value})


ENDPOINTS = """
offline = false
[endpoints.work]
models = ["large", "small"]
base_url = "https://llm.example.org/v1"
weight = 2
tags = ["eu"]
[endpoints.mine]
models = "phi"
"""


def test_endpoints_stand_in_the_order_of_the_file(tmp_path: Path) -> None:
    config = Config.load(
        write(tmp_path, ENDPOINTS), environ={}, overrides={"endpoints.work.concurrency": "3"}
    )
    work, mine = config.endpoints
    assert (work.name, work.models, work.weight, work.concurrency) == ("work", ("large", "small"), 2.0, 3)
    assert (mine.name, mine.models, mine.base_url, mine.api_key_env) == ("mine", ("phi",), None, None)
    assert config.strong_names == ("work", "large", "small", "eu", "mine", "phi")
    assert config.has_strong and not Config().has_strong
    assert config.get("endpoints.work.tags") == ("eu",) and config.get("endpoints.work.price_in") is None
    assert config.origin("endpoints.work.concurrency") == "argument"


@each(
    "settings, words",
    (
        ({"endpoints.a.modles": ["x"]}, "did you mean endpoints.a.models"),
        ({"endpoints.a": {}}, "must be a table"),
        ({"endpoints.a": "http://x"}, "must be a table"),
        ({"endpoints.a.weight": 1}, "must name the models"),
        ({"endpoints.a.models": []}, "must name the models"),
        ({"endpoints.auto.models": ["x"]}, "is not one of auto, weak, strong"),
        ({"endpoints.a b.models": ["x"]}, "is made of letters"),
        ({"endpoints..models": ["x"]}, "is made of letters"),
        ({"endpoints.a.models": ["weak"]}, r"endpoints\.a\.models .* may be called"),
        ({"endpoints.a.models": ["x"], "endpoints.a.tags": ["router-mf"]}, r"a\.tags .* may be called"),
        ({"endpoints.a.models": ["x"], "endpoints.a.protocol": "smtp"}, "must be openai"),
        ({"endpoints.a.models": ["x"], "endpoints.a.weight": -1}, "must be 0 or more"),
        ({"endpoints.a.models": ["x"], "endpoints.a.concurrency": 0}, "must be at least 1"),
        ({"endpoints.a.models": ["x"], "endpoints.a.price_in": float("nan")}, "must be 0 or more"),
        ({"endpoints.a.models": ["x"], "endpoints.a.base_url": "ftp://x"}, "must start with http"),
        ({"questions.model": "x", "questions.base_url": "ftp://x"}, "must start with http"),
        ({"questions.model": "x", "questions.base_url": "http://"}, "must be an address"),
        ({"endpoints.a.models": ["x"], "endpoints.a.api_key_env": KEY}, "not the key itself|no key belongs"),
        (
            {"endpoints.a.models": ["x"], "endpoints.a.api_key": KEY},
            "no key belongs.*endpoints.a.api_key_env",
        ),
        ({"endpoints.a.models": ["x"], "endpoints.a.base_url": f"https://h/{KEY}/v1"}, "no key belongs"),
        ({"strong.strategy": "best"}, "must be one of first, least_busy, weighted, cheapest"),
    ),
)
def test_endpoints_that_cannot_be(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Config().replace(**settings)
    assert KEY not in str(caught.value)


def test_a_key_of_an_endpoint_may_have_our_prefix() -> None:
    settings: dict[str, object] = {
        "endpoints.a.models": ["x"],
        "endpoints.a.api_key_env": "EDGE_ROUTER_WORK_KEY",
    }
    Config.load(environ={"EDGE_ROUTER_WORK_KEY": "k"}, overrides=settings)


HASHED = "sha256:" + "0" * 32 + ":" + "1" * 64
PRICED = {"strong.model": "big", "strong.price_in": 1.0, "strong.price_out": 2.0}


def test_callers_stand_beside_the_endpoints(tmp_path: Path) -> None:
    text = '[callers.anna]\nkey_hash = "' + HASHED + '"\nmodels = ["weak"]\n[callers.ben]\ndaily_budget = 1\n'
    config = Config.load(write(tmp_path, text), environ={}, overrides=PRICED)
    anna, ben = config.callers
    assert (anna.name, anna.key_hash, anna.models, anna.is_budgeted) == ("anna", HASHED, ("weak",), False)
    assert (ben.name, ben.daily_budget, ben.is_budgeted) == ("ben", 1.0, True)
    assert config.is_budgeted and not Config().is_budgeted
    assert config.get("callers.ben.concurrency") is None and "callers.ben.threshold" in config.every_key()
    Config.load(
        write(tmp_path, "[callers.a]\napi_key_env = 'EDGE_ROUTER_ANNA'"), environ={"EDGE_ROUTER_ANNA": "x"}
    )


@each(
    "settings, words",
    (
        ({"callers.a": {}}, "must be a table.*api_key_env or key_hash"),
        ({"callers.a.budget": 1}, "did you mean callers.a"),
        ({"callers.a b.models": ["x"]}, "is made of letters"),
        ({"callers.Con.models": ["x"]}, "Windows"),
        ({"callers.a.models": ["x"], "callers.A.models": ["x"]}, "only in capitals"),
        ({"callers..models": ["x"]}, "is made of letters"),
        ({"callers.a.models": [""]}, "must be names of models"),
        ({"callers.a.key_hash": "sha256:x"}, "edge-router keys new a"),
        ({"callers.a.key_hash": KEY}, "no key belongs.*edge-router keys new a"),
        ({"callers.a.api_key": KEY}, "no key belongs.*edge-router keys new a"),
        ({"callers.a.api_key_env": KEY}, "no key belongs|not the key itself"),
        ({"callers.a.key_hash": HASHED, "callers.b.key_hash": HASHED}, "another caller's"),
        ({"callers.a.threshold": 1.5}, "must be between 0 and 1"),
        ({"callers.a.strong_share": -1}, "must be between 0 and 1"),
        ({"callers.a.monthly_budget": -1, **PRICED}, "must be 0 or more"),
        ({"callers.a.daily_budget": float("nan"), **PRICED}, "must be 0 or more"),
        ({"callers.a.daily_budget": 1, "strong.model": "big"}, "needs the strong model's prices"),
        ({"callers.a.daily_budget": 1, "endpoints.x.models": ["m"]}, "a budget needs it"),
        ({"callers.a.concurrency": 0}, "must be at least 1"),
        ({"callers.a.tokens_per_minute": 0}, "must be at least 1"),
        ({"callers.a.requests_per_minute": "x"}, "must be a whole number"),
        ({"callers.a.strong_share": 0.5, "callers.a.threshold": 0.5}, "moves the threshold"),
        ({"callers.a.strong_share": 0.5, "callers.a.daily_budget": 1, **PRICED}, "moves the threshold"),
        ({"callers.a.strong_share": 0.5, "strong.monthly_budget": 1, **PRICED}, "moves the threshold"),
        ({"callers.a.daily_budget": 1, "router.strong_share": 0.5, **PRICED}, "moves the threshold"),
    ),
)
def test_what_callers_cannot_be(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Config().replace(**settings)
    assert KEY not in str(caught.value)
