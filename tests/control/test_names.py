"""A typo in a setting is told before anything is asked, and never answered by the other model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_router import Controller, ScriptedEngine, ScriptedRouter
from edge_router.config.settings import Config
from edge_router.control.names import check_names
from edge_router.engines.base import Engine
from edge_router.errors import ConfigError, EdgeRouterError, InvalidModel, UnknownModel

TYPOS = [
    ("weak.engine", "foo", None),
    ("weak.engine", "tmv", "tvm"),
    ("weak.engine", "Ollama", "remote"),
    ("weak.engine", "TVM", "tvm"),
    ("weak.device", "gpu", None),
    ("weak.device", "cdua", "cuda"),
    ("weak.device", "vulcan", "vulkan"),
    ("weak.device", "cuda:first", None),
    ("weak.device", "cuda:", None),
    ("weak.device", "", None),
    ("weak.quantization", "nosuch", None),
    ("weak.quantization", "q4f16-1", "q4f16_1"),
    ("weak.quantizer", "qptq", "gptq"),
    ("strong.engine", "opena1", "openai"),
    ("router.name", "mff", "mf"),
]


@pytest.mark.parametrize(("key", "value", "meant"), TYPOS)
def test_a_name_that_nobody_knows_is_told_with_the_nearest(key: str, value: str, meant: str | None) -> None:
    big = ScriptedEngine(model_id="big")
    given: dict[str, Any] = {} if key == "router.name" else {"router": ScriptedRouter(0.1)}
    if not key.startswith("strong"):
        given["strong"] = big
    with pytest.raises(ConfigError) as caught:
        Controller(**given, **{key.replace(".", "__"): value})
    assert (caught.value.key, caught.value.value) == (key, value)
    assert meant is None or f"did you mean {meant}?" in caught.value.reason
    assert big.calls == []


@pytest.mark.parametrize(
    "name", ["nosuch", "SmolLM2-135M", "./nowhere", "/nowhere/model.gguf", "~/nowhere/x", ""]
)
def test_a_model_that_is_nowhere_is_told(name: str) -> None:
    with pytest.raises((UnknownModel, ConfigError)):
        Controller(weak__model=name, strong=ScriptedEngine(), router=ScriptedRouter(0.1))


@pytest.mark.parametrize("name", ["hf:only-an-owner", "pypi:package"])
def test_a_model_that_is_written_wrongly_is_told(name: str) -> None:
    with pytest.raises(InvalidModel):
        Controller(weak__model=name, strong=ScriptedEngine(), router=ScriptedRouter(0.1))


@pytest.mark.parametrize(
    ("engine", "device"), [("tvm", "vulkan"), ("tvm", "rocm"), ("webgpu", "cuda"), ("webgpu", "opencl")]
)
def test_an_engine_says_what_it_drives(engine: str, device: str) -> None:
    with pytest.raises(ConfigError, match=f"the engine {engine} drives no {device}"):
        check_names(Config().replace(**{"weak.engine": engine, "weak.device": device}))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weak.device": "cuda:1"},
        {"weak.device": "vulkan:0", "weak.engine": "webgpu"},
        {"weak.device": "cuda:sm_89"},
        {"weak.engine": "mlc", "weak.device": "rocm"},
        {"weak.engine": "scripted", "weak.model": "anything"},
        {"weak.model": "smollm2-135m-instruct"},
        {"weak.model": "Qwen3-4B"},
        {"weak.model": "hf:owner/repo"},
        {"weak.quantization": "q0f32", "weak.quantizer": "gptq"},
    ],
)
def test_what_merely_is_not_here_is_no_mistake(settings: dict[str, Any]) -> None:
    check_names(Config().replace(**settings))


def test_a_folder_that_is_there_is_taken(tmp_path: Path) -> None:
    check_names(Config().replace(**{"weak.model": str(tmp_path)}))


def test_what_another_package_brings_is_its_own_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_router.plugins.names", lambda group: frozenset({"mine"}))
    others = {"weak.device": "npu", "weak.quantization": "int4", "weak.model": "anything"}
    check_names(Config().replace(**{"weak.engine": "mine", "strong.engine": "mine", **others}))


def test_engines_that_are_passed_in_need_no_names() -> None:
    settings: dict[str, Any] = {"weak__engine": "foo", "weak__device": "gpu", "router__name": "nosuch"}
    weak: Engine = ScriptedEngine("W", serves=())
    with Controller(weak=weak, router=ScriptedRouter(0.1), **settings) as controller:
        assert controller.chat.completions.create(messages="x").text == "W"


@pytest.mark.parametrize(("key", "value", "meant"), TYPOS)
def test_one_that_comes_later_is_no_reason_to_ask_the_other_model(
    key: str, value: str, meant: object
) -> None:
    """Whatever an engine finds out about its configuration while it loads."""
    error: EdgeRouterError = ConfigError(key, value, "is no name")
    big = ScriptedEngine(model_id="big")
    weak = ScriptedEngine(error, serves=())
    with Controller(weak=weak, strong=big, router=ScriptedRouter(0.1)) as controller:
        with pytest.raises(ConfigError):
            controller.chat.completions.create(messages="x")
    assert big.calls == []
