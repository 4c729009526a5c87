"""The setting `tiers`: from a file, a variable and an argument, and what it cannot be."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from table import each

from edge_router.cli.verbs.config_file import edited, toml
from edge_router.config.settings import Config
from edge_router.config.tiers import TierConfig, bound_of, plain, written
from edge_router.errors import ConfigError

THERE = {"endpoints.a.models": ["small", "big"], "endpoints.b.models": ["huge"]}
TIERS = (TierConfig(0.0, "weak"), TierConfig(0.3, "small"), TierConfig(0.6, "b"))
FILE = """
tiers = [{ at = 0, model = "weak" }, { at = 0.3, model = "small" }, { at = 0.6, model = "b" }]

[endpoints.a]
models = ["small", "big"]

[endpoints.b]
models = ["huge"]
"""


def test_it_is_read_from_wherever_settings_are(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(FILE, encoding="utf-8")
    told = "0:weak, 0.3:small, 0.6:b"
    for config in (
        Config.load(file, environ={}),
        Config().replace(**THERE, tiers=told),
        Config().replace(**THERE, tiers=written(TIERS)),
        Config().replace(**THERE, tiers=plain(TIERS)),
        Config().replace(**THERE, tiers=TIERS),
    ):
        assert config.tiers == TIERS and bound_of(config) == 0.3
    assert tomllib.loads(f"tiers = {toml(TIERS)}")["tiers"] == plain(TIERS)
    named = Config().replace(**{"strong.model": "qwen3:8b"}, tiers="0:weak,0.5:qwen3:8b")
    assert named.tiers[1] == TierConfig(0.5, "qwen3:8b")
    assert bound_of(Config()) is None and bound_of(Config().replace(**{"router.threshold": 0.2})) == 0.2


def test_what_is_written_is_read_as_the_same_number() -> None:
    """Also where scores lie nearer to each other than six digits tell, and where nothing lies below."""
    for at in (0.3, 0.12345678901234, 1e-05, 5e-324, 1.0):
        tiers = (TIERS[0], TierConfig(at, "small"))
        assert tomllib.loads(f"tiers = {written(tiers)}")["tiers"] == plain(tiers)
        for told in (written(tiers), ",".join(f"{tier.bound}:{tier.model}" for tier in tiers)):
            assert Config().replace(**THERE, tiers=told).tiers == tiers, told


def test_it_is_written_into_a_file() -> None:
    moved = (TIERS[0], TierConfig(0.41, "small"), TierConfig(0.8, "b"))
    found = edited(FILE, {"tiers": moved}, lambda _: "anew", "file")
    assert '{ at = 0.41, model = "small" }' in found and "[endpoints.b]" in found
    assert tomllib.loads(found)["tiers"] == plain(moved)


@each(
    "tiers, words",
    (
        ("0:weak", "must be"),
        ("0.1:weak,0.3:small", "must be"),
        ("0:small,0.3:big", "must be"),
        ("weak,small", "must be"),
        ("0:weak,x:small", "must be"),
        ('[{ at = 0, model = "weak" ]', "must be"),
        ("0:weak,nan:small", "must be"),
        (["weak", "small"], "must be"),
        ([{"at": 0, "model": "weak"}, {"at": True, "model": "small"}], "must be"),
        ([{"at": 0, "model": "weak"}, {"at": 0.2, "model": "small", "x": 1}], "must be"),
        (3, "must be"),
        ("0:weak,0.3:small,0.3:big", "above the one before it"),
        ("0:weak,0.6:small,0.3:big", "above the one before it"),
        ("0:weak,1.1:small", "above the one before it"),
        ("0:weak,0.3:tiny", "must name endpoints.*there is a, small, big, b, huge"),
        ("0:weak,0.3:weak", "must name endpoints"),
        ("0:weak,0.3:small,0.4:small", "each model once"),
    ),
)
def test_what_it_cannot_be(tiers: object, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"tiers.*{words}"):
        Config().replace(**THERE, tiers=tiers)


def test_the_threshold_is_said_once() -> None:
    with pytest.raises(ConfigError, match=r"router\.threshold must not be set"):
        Config().replace(**THERE, **{"router.threshold": 0.2}, tiers=TIERS)
