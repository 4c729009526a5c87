"""`config`: where values come from, and a file to begin with."""

from __future__ import annotations

import json
import tomllib

import pytest

from edge_router.cli.verbs.configuration import COMMENTS, NAMED_COMMENTS, shown, toml_of
from edge_router.config.settings import Config, keys

NAMED = Config().replace(**{"endpoints.a.models": ["m"], "callers.a.models": ["weak"]})


def test_every_key_is_explained():
    assert set(COMMENTS) == set(keys())
    explained = {f"{table}.a.{name}" for table, comments in NAMED_COMMENTS.items() for name in comments}
    assert explained == set(NAMED.every_key()) - set(keys())


def test_config_show_says_where_each_value_came_from(cli, home, monkeypatch):
    (home / "config.toml").write_text("[weak]\nthreads = 3\n", encoding="utf-8")
    monkeypatch.setenv("EDGE_ROUTER_ROUTER_THRESHOLD", "0.25")
    found = json.loads(cli("config", "show", "--json", "-o", "offline=yes").out)
    assert found["weak.threads"] == {"value": 3, "origin": str(home / "config.toml")}
    assert found["router.threshold"] == {"value": 0.25, "origin": "EDGE_ROUTER_ROUTER_THRESHOLD"}
    assert found["offline"] == {"value": True, "origin": "argument"}
    assert found["server.port"] == {"value": 6060, "origin": "default"}
    done = cli("config", "show")
    assert f"{home / 'config.toml'}: read" in done.err
    assert ["weak.threads", "3", str(home / "config.toml")] in [
        line.split() for line in done.out.splitlines()
    ]


def test_config_show_hides_what_an_address_carries(cli):
    out = cli("config", "show", "-o", "strong.base_url=https://me:hunter2@example.org/v1?key=abc").out
    assert "https://example.org/v1" in out and "hunter2" not in out and "abc" not in out
    assert shown("server.allowed_hosts", ("a",)) == ["a"]


@pytest.mark.integration
def test_config_init_writes_a_file_that_says_what_the_defaults_say(cli, home):
    done = cli("config", "init")
    file = home / "config.toml"
    assert done.code == 0 and done.out == f"{file}\n"
    assert Config.load() == Config()
    text = file.read_text(encoding="utf-8")
    for key in keys():
        assert f"EDGE_ROUTER_{key.replace('.', '_').upper()}" in text


def test_every_line_of_the_file_can_be_taken_as_it_stands():
    lines = toml_of(Config()).splitlines()
    settings = [line.removeprefix("# ") for line in lines if " = " in line and not line.endswith(")")]
    tables = [line for line in lines if line.startswith("[")]
    assert len(settings) > 15 and len(tables) == 12
    uncommented = [line.removeprefix("# ") if line.removeprefix("# ") in settings else line for line in lines]
    data = tomllib.loads("\n".join(uncommented))
    assert data["server"]["port"] == 6060 and data["offline"] is False and data["weak"]["build"] is True


@pytest.mark.integration
def test_config_init_sets_what_was_given(cli, tmp_path):
    file = tmp_path / "new" / "mine.toml"
    done = cli(
        *("config", "init", "--config", str(file), "-o", "strong.model=gpt-x"),
        *("-o", "server.allowed_hosts=a,b", "-o", "offline=true"),
    )
    assert done.code == 0
    loaded = Config.load(file)
    assert loaded.strong.model == "gpt-x" and loaded.server.allowed_hosts == ("a", "b") and loaded.offline
    assert loaded.origin("weak.threads") == "default"


@pytest.mark.integration
def test_config_init_replaces_nothing_unasked(cli, home):
    file = home / "config.toml"
    file.write_text("offline = true\n", encoding="utf-8")
    done = cli("config", "init")
    assert done.code == 0
    assert file.read_text(encoding="utf-8") == "offline = true\n"
    assert cli("config", "init", "--force").code == 0
    assert Config.load() == Config()


def test_config_init_refuses_values_that_are_wrong(cli, home):
    done = cli("config", "init", "-o", "weak.threads=0")
    assert done.code == 2 and not (home / "config.toml").exists()


MISPLACED = [
    *(
        "strong.api_key={}",
        "strong.api_key_env={}",
        "strong.base_url={}",
        "strong.timeout_s={}",
        "{}=1",
        "{}",
    ),
    *("strong.api_key:{}", "strong.base_url=htps://{}@host/v1", "strong.base_url=http://me:{}@host:port/v1"),
]
SURE = ["https://host/{}/v1", "https://host/v1/{}", "https://{}.example/v1", "http://127.0.0.1:1/v1/{}?a=b"]


@pytest.mark.parametrize("key", ["sk-abcDEF0123456789abcd", "0123456789abcdef0123456789abcdef"])
@pytest.mark.parametrize("setting", MISPLACED)
@pytest.mark.parametrize("verb", [("config", "show"), ("route", "hi")], ids=" ".join)
def test_a_key_in_the_wrong_setting_is_not_printed_back(cli, verb, setting, key):
    done = cli(*verb, "--set", "strong.model=m", "--set", setting.format(key))
    assert done.code != 0 and key not in done.out + done.err


@pytest.mark.parametrize("address", SURE)
def test_a_key_in_the_place_of_an_address_is_not_printed_back(cli, address):
    key = "sk-abcDEF0123456789abcd"
    done = cli("config", "show", "--set", f"strong.base_url={address.format(key)}")
    assert done.code != 0 and key not in done.out + done.err
    for kept in ("?key=" + key, "#" + key):  # which nobody is shown
        done = cli("config", "show", "--set", f"strong.base_url=https://host/v1{kept}")
        assert done.code == 0 and key not in done.out + done.err
