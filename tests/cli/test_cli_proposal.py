"""`config init`: what is proposed for a machine, shown as a chart, and written only for a yes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_router.api import model_plans, proposals
from edge_router.catalog import model_cards
from edge_router.cli.verbs import configuration, local_servers
from edge_router.cli.verbs.proposal import pace
from edge_router.config.settings import Config
from edge_router.device import host
from edge_router.vram import budget

pytestmark = pytest.mark.integration

GIB = 1 << 30


@pytest.fixture
def machine(monkeypatch):
    """machine(free bytes, bytes per second): what the planner sees."""

    def prepare(free, bandwidth=100e9):
        here = replace(host(ask_llvm=lambda: ("generic", ())), memory_free=free)
        monkeypatch.setattr(budget, "host", lambda memory: here)
        monkeypatch.setattr(model_plans, "room_bandwidth", lambda room, paths: bandwidth)

    return prepare


def written(home) -> Config:
    return Config.load(home / "config.toml", environ={})


@pytest.mark.parametrize(
    ("free", "bandwidth", "model"),
    [
        (24 * GIB, 100e9, "Qwen3-30B-A3B"),  # of which a token reads a tenth
        (12 * GIB, 90e9, "Qwen3-8B"),
        (8 * GIB, 100e9, "Qwen3-8B"),
        (24 * GIB, 10e9, "Llama-3.2-1B-Instruct"),
        (1 * GIB, 100e9, "Qwen2.5-0.5B-Instruct"),
        (12 * GIB, None, "Qwen3-14B"),
    ],
)
def test_the_largest_model_that_fits_and_is_fast_enough(cli, home, machine, free, bandwidth, model):
    machine(free, bandwidth)
    done = cli("config", "init", "--yes")
    assert done.code == 0 and done.out == f"{home / 'config.toml'}\n"
    config = written(home)
    assert config.weak.model == model, done.err
    assert config.weak.context_window_size == 8192
    for words in (f"room for {model} in q4f16_1", "context 8192", "KV cache", "###", "total"):
        assert words in done.err, words
    assert config.origin("weak.threads") == "default"


def test_little_memory_is_the_smallest_model(cli, home, machine):
    machine(400 << 20)
    assert cli("config", "init", "--yes").code == 0
    assert written(home).weak.model == "SmolLM2-135M-Instruct"


def test_no_memory_at_all_leaves_the_defaults(cli, home, machine):
    machine(100 << 20)
    done = cli("config", "init", "--yes")
    assert done.code == 0 and "No model fits" in done.err
    assert written(home) == Config()


def test_a_chosen_model_gets_windows_that_fit(cli, home, machine):
    machine(2 * GIB)
    done = cli("config", "init", "--yes", "-o", "weak.model=qwen3-1.7b", "-o", "router.threshold=0.4")
    config = written(home)
    assert done.code == 0 and config.weak.model == "Qwen3-1.7B" and config.router.threshold == 0.4
    assert 256 <= (config.weak.context_window_size or 0) <= 8192 and config.weak.kv_cache == "int8"
    machine(16 * GIB)
    cli(
        "config",
        "init",
        "--yes",
        "--force",
        "-o",
        "weak.model=Qwen3-4B",
        "-o",
        "weak.context_window_size=2048",
    )
    assert written(home).weak.context_window_size == 2048
    assert cli("config", "init", "--yes", "--force", "-o", "weak.model=Qwen9").code == 2


def test_what_cannot_be_compiled_here_or_serves_one_purpose_is_not_proposed(monkeypatch):
    names = {card.name for card in proposals.candidates()}
    assert "SmolLM2-135M-Instruct" in names and names < set(model_cards())
    assert not any(name.startswith(("gorilla", "DeepSeek-R1")) for name in names)
    from edge_router.compile.weights import parameters
    from edge_router.errors import UnsupportedArchitecture

    def refuse(config, where):
        raise UnsupportedArchitecture(str(config["model_type"]), ("llama",))

    monkeypatch.setattr(parameters, "parameters", refuse)
    assert proposals.candidates() == []


def test_nobody_is_asked_where_nobody_is(cli, home, monkeypatch):
    monkeypatch.setattr(proposals, "propose", lambda *_, **__: pytest.fail("nobody can say yes"))
    assert cli("config", "init").code == 0
    assert written(home) == Config()


@pytest.mark.parametrize(("answer", "model"), [(True, "Qwen3-8B"), (False, "SmolLM2-135M-Instruct")])
def test_a_person_is_asked(cli, home, machine, monkeypatch, answer, model):
    machine(8 * GIB)
    monkeypatch.setattr(configuration, "is_someone_there", lambda: True)
    monkeypatch.setattr(local_servers, "found", list)
    monkeypatch.setattr(configuration.typer, "confirm", lambda *arguments, **options: answer)
    assert cli("config", "init").code == 0
    assert written(home).weak.model == model


def test_what_was_set_stays_and_only_the_rest_is_proposed(cli, home, machine):
    machine(8 * GIB)
    (home / "config.toml").write_text(
        '[weak]\nmodel = "Qwen3-4B"\nprefill_chunk_size = 256\n[strong]\nmodel = "gpt-x"\n', encoding="utf-8"
    )
    assert cli("config", "init", "--yes").code == 0
    config = written(home)
    assert (config.weak.model, config.weak.prefill_chunk_size) == ("Qwen3-4B", 256)
    assert config.weak.context_window_size == 8192 and config.strong.model == "gpt-x"


def test_a_folder_of_ones_own_keeps_its_path(cli, home, machine, tmp_path, monkeypatch):
    machine(8 * GIB)
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setattr(
        proposals, "find_model", lambda name: replace(model_cards()["Qwen3-0.6B"], name="mine")
    )
    assert cli("config", "init", "--yes", "-o", f"weak.model={folder}").code == 0
    assert written(home).weak.model == str(folder)


@pytest.mark.parametrize(
    ("bandwidth", "words"),
    [
        (2e9, "Qwen3-14B fits, at less than 1 token/s"),
        (8e9, "fits, at 1 token/s"),
        (30e9, "Qwen3-14B fits, at 4 tokens/s"),
    ],
)
def test_what_fits_and_is_slow_is_said_to_fit(cli, machine, bandwidth, words):
    machine(12 * GIB, bandwidth)
    err = cli("config", "init", "--yes").err
    assert words in err and "no room" not in err


@pytest.mark.parametrize(
    ("speed", "words"),
    [
        (None, ""),
        (0.3, "less than 1 token/s"),
        (1.2, "1 token/s"),
        (1.6, "2 tokens/s"),
        (14.4, "14 tokens/s"),
    ],
)
def test_a_speed_in_words(machine, paths, speed, words):
    machine(8 * GIB)
    found = proposals.propose(Config(), paths=paths)
    assert found is not None and pace(replace(found.plan, tokens_per_s=speed)) == words
