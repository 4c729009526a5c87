"""Mistakes of ours: raised as one kind, logged once, counted, written down without anybody's words."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from pathlib import Path

import pytest

from edge_router import __version__
from edge_router.defects import KEPT, Defects, recorded
from edge_router.errors import Cancelled, InternalError, InvalidRequest, StorageError
from edge_router.metrics.counters import Metrics

MISTAKES = [TypeError("my diary"), KeyError("my diary"), RuntimeError("my diary"), OSError(5, "my diary")]


def meet(defects: Defects, mistake: Exception, component: str = "weak model") -> InternalError:
    with pytest.raises(InternalError) as caught, defects.guard(component):
        raise mistake
    return caught.value


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_becomes_ours_and_says_nothing_of_what_was_written(mistake: Exception) -> None:
    error = meet(Defects(), mistake)
    assert (error.component, error.kind) == ("weak model", type(mistake).__name__)
    assert error.__cause__ is mistake and "diary" not in str(error)
    assert error.place.startswith("tests/test_defects.py:")
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(twin), str(twin), twin.place) == (InternalError, str(error), error.place)


@pytest.mark.parametrize("error", [InvalidRequest("stop", "no"), Cancelled(), KeyboardInterrupt()])
def test_what_is_raised_on_purpose_passes(error: BaseException, tmp_path: Path) -> None:
    defects = Defects(tmp_path / "defects.json")
    with pytest.raises(type(error)) as caught, defects.guard("router"):
        raise error
    assert caught.value is error
    defects.save()
    assert recorded(tmp_path / "defects.json") == ()


def test_it_is_logged_once_with_its_traceback_and_counted_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    defects = Defects(tmp_path / "sub" / "defects.json", metrics.defect)
    with caplog.at_level(logging.DEBUG):
        for _ in range(5):
            error = meet(defects, TypeError("x"))
            with (
                pytest.raises(InternalError),
                defects.guard("controller"),
            ):  # an outer guard counts it no more
                raise error
        meet(defects, TypeError("x"), "ledger")
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage().partition(": TypeError")[0] for record in logged] == [
        "something broke in the weak model",
        "something broke in the ledger",
    ]
    assert all("raise mistake" in record.getMessage() for record in logged)
    rendered = metrics.render()
    assert 'edge_router_defects_total{component="weak model",error="TypeError"} 5' in rendered
    assert 'edge_router_defects_total{component="ledger",error="TypeError"} 1' in rendered


def test_what_is_logged_of_it_is_masked_or_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    def broken(text: str) -> str:
        raise ValueError(text)

    meet(Defects(mask=lambda text: text.replace("diary", "[HIDDEN_1]")), RuntimeError("my diary"))
    meet(Defects(mask=broken), RuntimeError("my diary"))
    assert "my [HIDDEN_1]" in caplog.text and "diary" not in caplog.text


def test_it_is_written_down_with_its_count_over_several_runs(tmp_path: Path) -> None:
    file = tmp_path / "defects.json"
    for times in (2, 3):
        defects = Defects(file)
        for mistake in MISTAKES[:times]:
            meet(defects, mistake)
            meet(defects, mistake)
        defects.save()
    found = {defect.kind: defect.count for defect in recorded(file)}
    assert found == {"TypeError": 4, "KeyError": 4, "RuntimeError": 2}
    assert {defect.version for defect in recorded(file)} == {__version__}
    assert "diary" not in file.read_text(encoding="utf-8")


def test_the_file_stays_small(tmp_path: Path) -> None:
    file = tmp_path / "defects.json"
    defects = Defects(file)
    for number in range(KEPT + 5):
        meet(defects, TypeError(), f"part {number}")
    found = recorded(file)
    assert len(found) == KEPT and found[-1].component == f"part {KEPT + 4}"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "{}", '[{"component": 3}]', "[" * 5000, '[{"kind": "x"}, null]', '"text"', "\x00"],
)
def test_a_file_that_cannot_be_read_holds_nothing_and_is_written_anew(tmp_path: Path, text: str) -> None:
    file = tmp_path / "defects.json"
    file.write_text(text, encoding="utf-8")
    assert recorded(file) == ()
    meet(Defects(file), TypeError())
    assert [defect.kind for defect in recorded(file)] == ["TypeError"]


@pytest.mark.parametrize("change", [{"count": "many"}, {"last": 1e300}, {"place": None}, {"extra": 1}])
def test_an_entry_that_is_none_is_left_out(tmp_path: Path, change: dict[str, object]) -> None:
    file = tmp_path / "defects.json"
    meet(Defects(file), TypeError())
    (entry,) = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps([{**entry, **change}, entry]), encoding="utf-8")
    assert len(recorded(file)) == 1


def test_a_home_that_cannot_be_written_to_hides_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with caplog.at_level(logging.ERROR):
        meet(Defects(tmp_path / "file" / "defects.json"), TypeError())
    assert "TypeError" in caplog.text


@pytest.mark.parametrize("problem", [TypeError("x"), StorageError("full"), InternalError("pay", "KeyError")])
def test_what_only_watches_is_spared(problem: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Defects().spare("ledger"):
        raise problem
    assert len(caplog.records) == 1
