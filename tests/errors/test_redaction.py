"""Keys in the wrong setting: refused where they can be told, and never printed back."""

import logging
import traceback

import pytest
from table import each

from edge_router import Controller
from edge_router.config.settings import Config
from edge_router.errors import ConfigError
from edge_router.errors.redaction import HIDDEN, address, hidden, is_key, names_key

SURE = [
    "sk-abcDEF0123456789abcd",
    "sk-proj-Ab1_cdefghijklmnopqrstuvwx-yz",
    "sk-ant-api03-0123456789abcdefABCDEF",
    "gsk_0123456789abcdefABCDEF",
    "xai-0123456789abcdefABCDEF0123",
    "hf_aBcDeFgHiJkLmNoPqRsTuVwX1z",
    "AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "ghp_0123456789abcdefABCDEF0123456789abcd",
    "nvapi-0123456789abcdefABCDEF",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc-DEF_123",
    "Bearer sk-abcDEF0123456789abcd",
]
LIKELY = [
    "0123456789abcdef0123456789abcdef",
    "Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab",
    "01234567-89ab-cdef-0123-456789abcdef",
    "Zm9vYmFyMDEyMzQ1Njc4OWFiY2RlZkFCQ0RFRg0123==",
]
NAMES = [
    "gpt-4o-mini-2024-07-18",
    "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "ft:gpt-4o-mini-2024-07-18:org::9AbCdEfG",
    "Qwen2.5-7B-Instruct-Q4_K_M.gguf",
    "hf:OWNER/REPO:Q4_K_M",
    "accounts/fireworks/models/deepseek-v3p1",
    "/home/me/.cache/models/hub/Qwen--Qwen2.5-0.5B-Instruct/main",
    "C:\\Users\\me\\models\\Llama-3.2-1B",
    "OPENAI_API_KEY",
    "AZURE_OPENAI_API_KEY_EASTUS2",
    "api_key_of_my_work_account",
    "http://localhost:11434/v1",
]


@each("key", SURE + LIKELY)
@each("around", ["{}", "it was {}, I think", "'{}'", "https://host/{}/v1", "a={};b=2"])
def test_what_looks_like_a_key_is_hidden(key, around):
    text = hidden(around.format(key))
    assert key.rpartition(" ")[2] not in text and HIDDEN in text


@each("name", NAMES)
def test_what_does_not_stays(name):
    assert hidden(name) == name and not is_key(name)


def test_what_is_surely_a_key():
    assert all(map(is_key, SURE)) and not any(map(is_key, NAMES))


@each(
    "text",
    [
        "http://me:pass-word@host:8080/v1",
        "htps://me:pass-word@host/v1",
        "me:pass-word@host",
        "https//me:pass-word@host",
        "http://me:pass-word@host:port/v1",
        "http://me:pass-word@",
        "http://[me:pass-word@host/v1",
        "http://me:pa?pass-word@host/v1",
        "http://me:pass-word#x@host",
        "http://host/v1?code=pass-word",
        "ftp://host/v1#pass-word",
        "host/v1?pass-word",
    ],
)
def test_an_address_is_shown_without_what_is_secret(text):
    assert "pass-word" not in address(text)
    with pytest.raises(ConfigError) as caught:
        Controller(strong__model="m", strong__base_url=text.replace("http://", "htp://")).close()
    assert "pass-word" not in everything(caught.value)


@pytest.mark.parametrize(
    "name", ["strong.api_key", "strong.key", "x.token", "EDGE_ROUTER_STRONG_API_KEY", "apikey"]
)
def test_names_of_keys(name):
    assert names_key(name)


@pytest.mark.parametrize(
    "name", ["strong.api_key_env", "max_tokens", "weak.monkeys", "strong.keyring_service"]
)
def test_names_of_others(name):
    assert not names_key(name)


# ---- in the configuration


def everything(error):
    """All that a person or a log could see of it."""
    from edge_router.cli.terminal.sentences import sentence
    from edge_router.server.errors import failure

    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    return shown + sentence(error) + failure(error).message


def ways(tmp_path, setting, value):
    """The same setting from each place where one may stand."""
    section, name = setting.split(".")
    file = tmp_path / "config.toml"
    file.write_text(f"[{section}]\n{name} = '{value}'\n", encoding="utf-8")
    yield lambda: Config.load(file, environ={})
    yield lambda: Config.load(environ={}, overrides={setting: value})
    yield lambda: Config.load(environ={f"EDGE_ROUTER_{section}_{name}".upper(): value})
    yield lambda: Config().replace(**{setting: value})
    yield lambda: Controller(**{f"{section}__{name}": value})


UNKNOWN = [
    "strong.api_key",
    "strong.key",
    "strong.openai_api_key",
    "strong.token",
    "server.api_key",
    "weak.api_key",
]


@each("key", [*SURE[:3], LIKELY[0], "short"])
@each("setting", UNKNOWN)
def test_a_key_in_a_setting_of_its_own_is_refused_with_the_place_for_it(tmp_path, setting, key):
    for way in ways(tmp_path, setting, key):
        with pytest.raises(ConfigError) as caught:
            way()
        text = everything(caught.value)
        assert key not in text and "environment variable" in text
        assert ("EDGE_ROUTER_API_KEY" if setting.startswith("server.") else "OPENAI_API_KEY") in text


KNOWN = ["strong.model", "strong.api_key_env", "strong.keyring_service", "strong.engine", "strong.base_url"]
KNOWN += ["server.api_key_env", "server.allowed_hosts", "weak.model", "weak.device", "router.name"]


@each("key", SURE)
@each("setting", KNOWN)
def test_a_key_in_another_setting_is_refused(tmp_path, setting, key):
    for way in ways(tmp_path, setting, key):
        with pytest.raises(ConfigError) as caught:
            way()
        assert key.rpartition(" ")[2] not in everything(caught.value)
        assert "environment variable" in str(caught.value)


@each("key", [*LIKELY, "my-key", "a b", "1KEY"])
@each("setting", ["strong.api_key_env", "server.api_key_env"])
def test_what_names_no_variable_may_be_the_key(tmp_path, setting, key):
    for way in ways(tmp_path, setting, key):
        with pytest.raises(ConfigError) as caught:
            way()
        assert key not in everything(caught.value) and "the name of the environment variable" in str(
            caught.value
        )


@each("key", SURE + LIKELY)
@each("setting", ["strong.timeout_s", "weak.threads", "weak.vram_budget", "server.port", "offline"])
def test_a_value_of_another_kind_is_not_repeated(key, setting):
    with pytest.raises(ConfigError) as caught:
        Config.load(environ={}, overrides={setting: key})
    assert key.rpartition(" ")[2] not in everything(caught.value)


@each("key", SURE + LIKELY)
def test_nor_is_a_key_in_the_place_of_a_name_or_deep_in_a_table(tmp_path, key):
    file = tmp_path / "config.toml"
    for text in (
        f'strong = "{key}"',
        f'"{key}" = 1',
        f'[strong]\n"{key}" = 1',
        f'[strong.headers]\nAuthorization = "{key}"',
        f'[strong]\nextra = ["{key}"]',
        f'[strong]\nmodel = ["{key}"]',
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            Config.load(file, environ={})
        assert key.rpartition(" ")[2] not in everything(caught.value)


@pytest.mark.parametrize(
    "variable", ["EDGE_ROUTER_STRONG_API_KEY", "EDGE_ROUTER_OPENAI_API_KEY", "EDGE_ROUTER_STRONG_KEY"]
)
def test_a_variable_that_looks_like_the_place_for_a_key_but_is_not(variable):
    secret = "-".join(["a", "secret"])  # the traceback holds this line
    with pytest.raises(ConfigError) as caught:
        Config.load(environ={variable: secret})
    assert variable in str(caught.value) and secret not in everything(caught.value)
    own = {"strong.api_key_env": variable}
    assert Config.load(environ={variable: secret}, overrides=own).strong.api_key_env == variable
    assert Config.load(environ={"EDGE_ROUTER_API_KEY": secret}).server.api_key_env == "EDGE_ROUTER_API_KEY"


def test_a_typing_error_is_still_told_with_its_value():
    for setting, value, words in [
        ("weak.threds", "2", "weak.threads"),
        ("strong.timout_s", "60", "strong.timeout_s"),
        ("server.port", "http", "'http'"),
        ("strong.base_url", "localhost:11434/v1", "'localhost:11434/v1'"),
        ("router.threshold", 7, "= 7"),
    ]:
        with pytest.raises(ConfigError) as caught:
            Config.load(environ={}, overrides={setting: value})
        assert words in str(caught.value)


@pytest.mark.parametrize("key", SURE[:4] + LIKELY[:2])
def test_nothing_is_logged_of_it_either(key, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigError):
        Config.load(environ={}, overrides={"strong.api_key": key})
    assert key not in caplog.text
