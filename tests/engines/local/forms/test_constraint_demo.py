"""The demo model, held to the schemas that clients send."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCHEMAS = runpy.run_path(str(Path(__file__).with_name("answer_schemas.py")))
fits = runpy.run_path(str(Path(__file__).with_name("small_validator.py")))["fits"]


def test_the_demo_model_fits_every_schema(built_home: Path) -> None:
    """It may be cut, for it has much to say; it is whole JSON all the same."""
    from edge_router import Controller
    from edge_router.system.paths import Paths

    ended: Counter[str] = Counter()
    with Controller(paths=Paths.under(built_home), offline=True, ledger__enabled=False) as client:
        for name, schema in SCHEMAS["FOLLOWED"].items():
            reply = client.chat.completions.create(
                model="weak",
                messages=f"Make up an example, in JSON: {name}.",
                temperature=0,
                max_tokens=150,
                response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
            )
            assert fits(json.loads(reply.text), schema), (name, reply.text)
            ended[str(reply.choices[0].finish_reason)] += 1
    assert ended["stop"] >= 12, ended
