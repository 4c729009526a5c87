"""Templates with the ways of each family; see family_templates.py and tool_templates.py."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest


def _loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def families() -> Mapping[str, str]:
    found: Mapping[str, str] = _loaded("family_templates").FAMILIES
    return found


@pytest.fixture(scope="session")
def tool_templates() -> ModuleType:
    return _loaded("tool_templates")
