"""Clients that are in the extra `test`, over a server that listens, to the weak model and to a remote one.

tests/clients/run tries the others.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.integration
CLIENTS = ("openai, chat", "openai, responses", "anthropic", "ollama")


def loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_does_all_that_it_can(
    program: Callable[..., Any], strong_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    tests = Path(__file__).resolve().parent.parent
    monkeypatch.syspath_prepend(str(tests))
    monkeypatch.delitem(sys.modules, "assistant", raising=False)
    clients, assistant = loaded(tests / "clients" / "in_python.py"), sys.modules["assistant"]
    url = program("--strong", strong_server.url("assist")).url
    for name in CLIENTS:
        for model in ("weak", "strong"):
            client = clients.CLIENTS[name](url, model)
            found = clients.tried(client)
            client.close()
            assert len(found) == 6, (name, found)
            wrong = {way: told for way, told in found.items() if not assistant.fits(way, told.get("value"))}
            assert not wrong, (name, model, wrong)
    assert {asked["body"]["model"] for asked in strong_server.requests()} == {"weak"}


def test_what_a_real_model_says_reaches_each_in_the_form_that_it_asked_for(
    built_model: Any, serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the demo model, whose words are not looked at: calls and JSON are held to their schemas."""
    from edge_router.engines.tvm.engine import open_model

    tests = Path(__file__).resolve().parent.parent
    monkeypatch.syspath_prepend(str(tests))
    clients, demo = loaded(tests / "clients" / "in_python.py"), loaded(tests / "demo_model.py")
    assistant = sys.modules["assistant"]
    model = demo.with_template(built_model.model_dir, demo.TOOLS_AND_THOUGHTS, tmp_path / "model")
    engine = open_model(model, built_model.library, model_id="demo", threads=2, context_window_size=1024)
    engine.calls_tools = True
    url = serve(weak=engine).url
    for name in CLIENTS:
        client = clients.CLIENTS[name](url, "weak")
        found = clients.tried(client, assistant.FORMS)
        client.close()
        assert len(found) == len(assistant.FORMS) - (name == "ollama"), (name, found)  # which demands no call
        wrong = {way: told for way, told in found.items() if not assistant.formed(way, told.get("value"))}
        assert not wrong, (name, wrong)
