"""`config set` and `config init` over a file that is there: in place, nothing is lost, a copy stays."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.cli.verbs.config_file import alone, edited, save
from edge_router.cli.verbs.configuration import toml_of
from edge_router.config.file import flat
from edge_router.config.settings import Config, keys
from edge_router.types import SilentProgress

OWN = """\
# mine
offline = false   # for now

[weak]   # the small one
threads = 3  # cores, "physical" # ones
#max_sequences = 2
model = 'Qwen3-4B'

[server]
allowed_hosts = [
    "a",   # one
    "b",
]
port = 7000
"""


def set_in(text: str, values: dict[str, object]) -> str:
    return edited(text, values, toml_of, "config.toml")


def changed(before: str, after: str) -> tuple[list[str], list[str]]:
    """Lines that went, and lines that came."""
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


@pytest.mark.parametrize(
    ("values", "gone", "came"),
    [
        ({"weak.threads": 8}, ['threads = 3  # cores, "physical" # ones'], ['threads = 8  # cores, "physical" # ones']),
        ({"weak.model": "a#b"}, ["model = 'Qwen3-4B'"], ['model = "a#b"']),
        ({"weak.max_sequences": 4}, ["#max_sequences = 2"], ["max_sequences = 4"]),
        ({"weak.build": False}, [], ["build = false"]),
        ({"offline": True}, ["offline = false   # for now"], ["offline = true  # for now"]),
        ({"strong.model": "gpt-x"}, [], ["[strong]", 'model = "gpt-x"']),
        ({"weak.threads": None}, ['threads = 3  # cores, "physical" # ones'], ['# threads = 3  # cores, "physical" # ones']),
        ({"strong.model": None}, [], []),
        ({"server.allowed_hosts": ("c",)}, ["allowed_hosts = [", '    "a",   # one', '    "b",', "]"], ['allowed_hosts = ["c"]']),
        ({"server.port": 1, "weak.threads": 1}, ['threads = 3  # cores, "physical" # ones', "port = 7000"],
         ['threads = 1  # cores, "physical" # ones', "port = 1"]),
    ],
)  # fmt: skip
def test_only_the_lines_of_what_is_set_change(values, gone, came):
    after = set_in(OWN, values)
    assert changed(OWN, after) == (gone, came)
    wanted = {**flat(OWN, ""), **{key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}}
    assert flat(after, "") == {key: value for key, value in wanted.items() if value is not None}


@pytest.mark.parametrize(
    "text",
    [
        "weak.threads = 3\nweak.model = 'a'\n",
        "weak = { threads = 3, model = 'a' }\n",
        '[weak]\n"threads" = 3\nmodel = "a"\n',
        "[ weak ]\nthreads=3\nmodel='''a'''",
        '["weak"]\nmodel = "a"\nthreads = 3',
        '[strong]\nmodel = """\n[weak]\nthreads = 5\n"""\n[weak]\nthreads = 3\nmodel = "a"\n',
        "[weak]\r\nthreads = 3\r\nmodel = 'a'\r\n",
    ],
)
@pytest.mark.parametrize(
    "values", [{"weak.threads": 7}, {"weak.threads": None}, {"weak.device": "cpu", "offline": True}]
)
def test_whatever_way_a_file_is_written_it_means_what_was_asked_and_nothing_else(text, values):
    meant = {key: value for key, value in {**flat(text, ""), **values}.items() if value is not None}
    assert flat(set_in(text, values), "") == meant


SETTINGS = st.dictionaries(
    st.sampled_from(["weak.threads", "weak.max_sequences", "server.port", "router.threads"]),
    st.one_of(st.none(), st.integers(1, 200)),
    min_size=1,
)


@given(SETTINGS, SETTINGS)
def test_one_setting_after_the_other_is_as_all_at_once(first, second):
    text = set_in(set_in(toml_of(Config()), first), second)
    meant = {key: value for key, value in {**first, **second}.items() if value is not None}
    assert flat(text, "") == meant
    lines = set(toml_of(Config()).splitlines())
    assert {line for line in lines if line.startswith("# ") and line.endswith(")")} <= set(text.splitlines())
    assert len(text.splitlines()) == len(toml_of(Config()).splitlines())  # commented lines gave way


def test_every_key_can_be_set_and_taken_out_again():
    whole = toml_of(Config())
    for key in keys():
        value = Config().get(key)
        if value is None or value == ():
            continue
        after = set_in(whole, {key: value})
        assert flat(after, "") == {key: value}
        assert flat(set_in(after, {key: None}), "") == {}


def test_config_set_edits_in_place_and_keeps_a_copy(cli, home):
    file, backup = home / "config.toml", home / "config.toml.bak"
    file.write_bytes(OWN.encode())
    done = cli("config", "set", "weak.threads=5", "strong.model=gpt-x")
    assert done.code == 0 and done.out == f"{file}\n" and str(backup) in done.err
    assert backup.read_bytes() == OWN.encode()
    loaded = Config.load(file, environ={})
    assert (
        loaded.weak.threads == 5
        and loaded.strong.model == "gpt-x"
        and loaded.server.allowed_hosts == ("a", "b")
    )
    assert "# mine" in file.read_text(encoding="utf-8")
    before = file.read_bytes()
    again = cli("config", "set", "weak.threads=5")
    assert again.code == 0 and file.read_bytes() == before and backup.read_bytes() == OWN.encode()


def test_config_set_takes_endpoints(cli, home):
    file = home / "config.toml"
    file.write_text("# mine\n[weak]\nthreads = 2\n", encoding="utf-8")
    place = "https://me:hunter2@llm.example.org/v1"
    done = cli("config", "set", "endpoints.work.models=large,small", f"endpoints.work.base_url={place}")
    assert done.code == 0, done.err
    assert cli("config", "set", "endpoints.work.weight=2", "endpoints.mine.models=phi").code == 0
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# mine\n") and text.count("[endpoints.work]") == 1
    work, mine = Config.load(file, environ={}).endpoints
    assert (work.models, work.base_url, work.weight, mine.models) == (
        ("large", "small"),
        place,
        2.0,
        ("phi",),
    )
    for wrong in ("endpoints.work.wieght=3", "endpoints.other.weight=3", "endpoints.work.weight=heavy"):
        assert cli("config", "set", wrong).code != 0 and file.read_text(encoding="utf-8") == text, wrong
    shown = cli("config", "show")
    assert "https://llm.example.org/v1" in shown.out and "hunter2" not in shown.out + shown.err
    assert cli("config", "set", "endpoints.mine.models=").code == 0
    assert [each.name for each in Config.load(file, environ={}).endpoints] == ["work"]
    assert "endpoints.NAME.models" in cli("config", "keys").out


def test_a_file_that_is_written_anew_keeps_its_endpoints():
    config = Config().replace(
        **{"endpoints.a.models": ["m"], "endpoints.a.tags": ["eu"], "endpoints.b.models": ["n"]}
    )
    assert Config().replace(**flat(toml_of(config), "")).endpoints == config.endpoints


def test_config_set_begins_a_file_where_there_is_none(cli, home):
    assert cli("config", "set", "weak.threads=2", "server.allowed_hosts=a,b").code == 0
    loaded = Config.load(home / "config.toml", environ={})
    assert loaded.weak.threads == 2 and loaded.server.allowed_hosts == ("a", "b")
    assert not (home / "config.toml.bak").exists()
    assert cli("config", "set", "weak.threads=").code == 0
    assert tomllib.loads((home / "config.toml").read_text(encoding="utf-8"))["weak"] == {}


@pytest.mark.parametrize(
    "setting",
    ["weak.threads=0", "weak.threads=many", "nosuch=1", "nosuch=", "weak.nosuch=1", "weak.threads", "=1", "router.threshold=2",
     "weak.engine=foo", "weak.device=gpu", "weak.quantization=q9", "weak.quantizer=none", "weak.model=SmolLM9", "strong.engine=x", "router.threads=100000",
     "weak.model=Qwen3-4b.gguf", "router.name=nosuch"],
)  # fmt: skip
@pytest.mark.parametrize("there", [True, False])
def test_config_set_changes_nothing_where_anything_is_wrong(cli, home, setting, there):
    file = home / "config.toml"
    if there:
        file.write_text(OWN, encoding="utf-8")
    done = cli("config", "set", "offline=true", setting)
    assert done.code == 2 and "Traceback" not in done.err and "--set" not in done.err
    assert (file.read_text(encoding="utf-8") if there else OWN) == OWN and file.exists() is there
    assert not (home / "config.toml.bak").exists()


def test_config_init_sets_no_name_that_nobody_knows(cli, home):
    done = cli("config", "init", "-o", "weak.model=nosuch")
    assert done.code == 2 and "nosuch" in done.err and not (home / "config.toml").exists()


def test_a_name_that_is_wrong_already_keeps_no_other_key_from_being_set(cli, home):
    file = home / "config.toml"
    file.write_text('[weak]\nmodel = "nosuch"\n', encoding="utf-8")
    assert cli("config", "set", "weak.threads=2").code == 0
    assert cli("config", "set", "weak.model=Qwen3-4B").code == 0
    loaded = Config.load(file, environ={})
    assert loaded.weak.model == "Qwen3-4B" and loaded.weak.threads == 2


def test_settings_that_may_not_stand_together_are_refused(cli, home):
    file = home / "config.toml"
    file.write_text("[router]\nthreshold = 0.4\n", encoding="utf-8")
    assert cli("config", "set", "router.strong_share=0.3").code == 2
    assert cli("config", "set", "router.strong_share=0.3", "router.threshold=").code == 0
    assert Config.load(file, environ={}).router.strong_share == 0.3


def test_a_setting_that_needs_others_is_set_with_them_or_after_them(cli, home):
    prices = ("strong.price_in=2", "strong.price_out=8")
    for key, before in (
        ("strong.monthly_budget=5", prices),
        ("strong.monthly_budget=5", ()),
        ("callers.anna.monthly_budget=5", prices),
    ):
        (home / "config.toml").unlink(missing_ok=True)
        assert cli("config", "set", key).code == 2, key
        if before:
            assert cli("config", "set", *before).code == 0
        assert cli("config", "set", key, *(() if before else prices)).code == 0, (key, before)
        assert key.rpartition(".")[2].replace("=", " = ") in (home / "config.toml").read_text(
            encoding="utf-8"
        )


@pytest.mark.parametrize("verb", [("set", "offline=true"), ("init",), ("init", "--yes")])
@pytest.mark.parametrize("content", [b"[weak\n", b"\xff\xfe", b"[weak]\nnosuch = 1\n", b"x = " + b"[" * 3000])
def test_a_file_that_cannot_be_read_stays_as_it_is(cli, home, verb, content):
    file = home / "config.toml"
    file.write_bytes(content)
    done = cli("config", *verb)
    assert done.code == 2 and (str(file) in done.err or "nosuch" in done.err)
    assert file.read_bytes() == content


def test_a_file_with_a_byte_order_mark_is_edited_too(cli, home):
    file = home / "config.toml"
    file.write_bytes(b"\xef\xbb\xbf[weak]\r\nthreads = 3  # mine\r\n")
    assert cli("config", "set", "offline=true").code == 0
    assert (Config.load(file, environ={}).weak.threads, Config.load(file, environ={}).offline) == (3, True)
    assert b"# mine" in file.read_bytes()


def test_config_set_can_mend_a_value_that_is_wrong(cli, home):
    file = home / "config.toml"
    file.write_text('[weak]\nthreads = "many"\n', encoding="utf-8")
    assert cli("config", "set", "offline=true").code == 2
    assert cli("config", "set", "weak.threads=2").code == 0
    assert Config.load(file, environ={}).weak.threads == 2


def test_config_set_says_what_the_environment_overrules(cli, monkeypatch):
    monkeypatch.setenv("EDGE_ROUTER_WEAK_THREADS", "1")
    assert "EDGE_ROUTER_WEAK_THREADS" in cli("config", "set", "weak.threads=2").err


@pytest.mark.integration
def test_config_init_keeps_what_was_set(cli, home):
    file = home / "config.toml"
    file.write_text(OWN, encoding="utf-8")
    done = cli("config", "init", "-o", "strong.model=gpt-x", "-o", "weak.threads=6")
    assert done.code == 0, done.err
    loaded = Config.load(file, environ={})
    assert loaded.strong.model == "gpt-x" and loaded.weak.threads == 6
    assert loaded.weak.model == "Qwen3-4B" and loaded.server.port == 7000
    assert "# mine" in file.read_text(encoding="utf-8")
    assert (home / "config.toml.bak").read_text(encoding="utf-8") == OWN


@pytest.mark.integration
def test_config_init_with_force_begins_anew_and_keeps_a_copy(cli, home):
    file = home / "config.toml"
    file.write_text(OWN, encoding="utf-8")
    assert cli("config", "init", "--force").code == 0
    assert Config.load() == Config() and (home / "config.toml.bak").read_text(encoding="utf-8") == OWN


@pytest.mark.integration
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((), "names one, 57 of 76 typical prompts (75%) would go there (small talk 3 of 8"),
        (("-o", "strong.model=gpt-x"), "57 of 76 typical prompts (75%) would go to gpt-x (small talk 3 of 8"),
        (("-o", "strong.model=gpt-x", "-o", "router.threshold=0"), "76 of 76 typical prompts (100%)"),
        (("-o", "strong.model=gpt-x", "-o", "weak.model=Qwen3-8B"), "(25%) would go to gpt-x"),
    ],
)
def test_config_init_says_what_share_of_typical_prompts_would_go_where(cli, settings, words):
    done = cli("config", "init", *settings)
    assert done.code == 0 and words in done.err
    assert "take what fits with: edge-router config init --yes" in done.err, "nobody could be asked"
    assert not cli("config", "init", "-q", *settings).err.count("typical")
    assert ("There is no strong model" in cli("route", "--typical").err) is (not settings)


def test_two_who_set_keys_at_once_lose_none(home):
    """Whoever comes second waits, and reads what the first has written."""
    file = home / "config.toml"
    command = [sys.executable, "-m", "edge_router", "config", "set", "weak.threads=2"]
    with alone(file, SilentProgress()):
        second = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert second.stderr is not None
        assert "waiting for another process that changes" in second.stderr.readline()
        save(file, "[strong]\nmodel = 'theirs'\n")
    assert second.wait(60) == 0
    second.stderr.close()
    assert flat(file.read_text(), "") == {"strong.model": "theirs", "weak.threads": 2}


def test_many_who_set_keys_at_once_lose_none(home):
    file = home / "config.toml"
    names = [key for key in keys() if key.startswith("strong.price") or key.endswith("threads")]

    def change(key):
        with alone(file, SilentProgress()):
            text = file.read_text() if file.exists() else ""
            save(file, edited(text, {key: 3}, toml_of, str(file)))

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(change, names))
    assert flat(file.read_text(), "") == dict.fromkeys(names, 3)
