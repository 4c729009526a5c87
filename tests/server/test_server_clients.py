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
