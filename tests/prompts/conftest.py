"""Templates with the ways of each family; see family_templates.py."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def families() -> Mapping[str, str]:
    file = Path(__file__).with_name("family_templates.py")
    spec = importlib.util.spec_from_file_location("family_templates", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Mapping[str, str] = module.FAMILIES
    return found
