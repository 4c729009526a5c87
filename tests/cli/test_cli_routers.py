"""`evaluate`, `calibrate` and `train`."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

from edge_router.config.settings import Config
from edge_router.config.tiers import plain
from edge_router.ledger import Ledger, Record
from edge_router.routing.thresholds import drift
from edge_router.types import Decision, Reason


@pytest.fixture
def labelled(tmp_path) -> Path:
    file = tmp_path / "labels.csv"
    rows = ["prompt,weak_score,strong_score,benchmark"]
    for index in range(40):
        words = " ".join(["word"] * (index + 1))
        rows.append(f"{words},{int(index < 20)},1,{'one' if index % 2 else 'two'}")
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


def test_evaluate_json_is_the_contract(cli, labelled):
    done = cli("evaluate", str(labelled), "--router", "length", "--json")
    report = json.loads(done.out)
    assert set(report) == {"one", "two"} and set(report["one"]) == {"length", "random", "oracle"}
    assert set(report["one"]["length"]) == {"n", "apgr", "apgr_low", "apgr_high", "cpt20", "cpt50", "cpt80"}
    assert report["one"]["length"]["apgr"] > report["one"]["random"]["apgr"]


def test_evaluate_keeps_apart_what_two_files_call_the_same(cli, labelled, tmp_path):
    other = tmp_path / "other.csv"
    other.write_bytes(labelled.read_bytes())
    report = json.loads(cli("evaluate", str(labelled), str(other), "--router", "length", "--json").out)
    assert set(report) == {"one", "two", f"{other}: one", f"{other}: two"}


def test_evaluate_prints_a_table_and_draws_curves(cli, labelled, tmp_path):
    import xml.etree.ElementTree as ElementTree

    plot = tmp_path / "curves.svg"
    done = cli("evaluate", str(labelled), "-o", "router.name=length", "--plot", str(plot))
    assert done.code == 0 and done.out.splitlines()[0].split()[:3] == ["benchmark", "router", "n"]
    assert len(done.out.splitlines()) == 1 + 2 * 3
    drawn = ElementTree.parse(plot).getroot()
    assert len(drawn.findall(".//{http://www.w3.org/2000/svg}polyline")) == 6


@pytest.mark.integration
def test_evaluate_of_a_file_without_the_columns(cli, tmp_path):
    file = tmp_path / "bad.csv"
    file.write_text("question,answer\na,b\n", encoding="utf-8")
    done = cli("evaluate", str(file))
    assert done.code == 1 and "no column prompt, weak_score, strong_score" in done.err


def test_evaluate_tells_its_warnings(cli, tmp_path):
    file = tmp_path / "same.csv"
    file.write_text("prompt,weak_score,strong_score\na,1,1\nbb,1,1\n", encoding="utf-8")
    done = cli("evaluate", str(file), "--router", "length")
    assert done.code == 0 and "warning: " in done.err and " - " in done.out


def test_calibrate_on_prompts(cli, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join("word " * (n + 1) for n in range(100)), encoding="utf-8")
    done = cli("calibrate", "--strong-share", "0.3", "--prompts", str(file), "--router", "length")
    assert done.code == 0 and 0 < float(done.out) < 1
    assert "length sends 30.0% of 100 prompts" in done.err and "warning: 100 prompts are few" in done.err
    report = json.loads(
        cli(
            *("calibrate", "--strong-share", "0.3", "--prompts", str(file), "--json", "--router", "length")
        ).out
    )
    assert report["router"] == "length" and report["share"] == 0.3 and report["n"] == 100


def test_calibrate_for_more_than_two_models(cli, tmp_path, paths):
    file, settings = tmp_path / "prompts.txt", tmp_path / "config.toml"
    file.write_text("\n".join("word " * (n + 1) for n in range(100)), encoding="utf-8")
    settings.write_text(
        '[router]\nname = "length"\n[endpoints.a]\nmodels = ["small", "big"]\nprice_in = 1\nprice_out = 4\n',
        encoding="utf-8",
    )
    asked = ("--config", str(settings), "calibrate", "--prompts", str(file))
    done = cli(*asked, "--tier-shares", "weak=0.5,small=0.3,big=0.2")
    tiers = tomllib.loads(done.out)["tiers"]
    assert [each["model"] for each in tiers] == ["weak", "small", "big"]
    assert "30.0% to small" in done.err and "config set tiers=0:weak," in done.err
    command = re.search(r"tiers=(\S+)", done.err)
    assert cli("--config", str(settings), "config", "set", command[0]).code == 0  # as it was printed
    config = Config.load(settings, environ={})
    assert plain(config.tiers) == tiers
    assert drift.load(paths.calibration)["length"].threshold == tiers[1]["at"]
    found = json.loads(cli(*asked, "--tier-shares", "0.2,0.4,0.4", "--json").out)
    assert [round(each["share"], 1) for each in found["shares"]] == [0.2, 0.4, 0.4]
    paid = json.loads(cli(*asked, "--tier-price", "0.5", "--json").out)
    assert paid["cost_per_query"] == pytest.approx(0.0005, rel=0.05)
    for wrong, words in (
        (("--tier-shares", "0.5,0.5"), "a share for each of the tiers"),
        (("--tier-shares", "weak=0.5,tiny=0.5"), "there is no model tiny; there is a, small, big"),
        (("--tier-shares", "weak=0.5,small=0.9"), "make 1 together"),
        (("--tier-shares", "weak=1", "--strong-share", "0.3"), "take one of"),
    ):
        done = cli(*asked, *wrong)
        assert done.code in (1, 2) and done.out == "" and words in " ".join(done.err.split()), wrong


def test_calibrate_on_the_ledger(cli, paths):
    done = cli("calibrate", "--strong-share", "0.5", "--ledger")
    assert done.code == 2 and "the ledger holds no score of mf yet" in done.err
    ledger = Ledger(paths.ledger)
    for index in range(10):
        ledger.record(Record(Decision("weak", Reason.SCORE, index / 10, 0.5, "mf"), "small"))
    ledger.close()
    assert float(cli("calibrate", "--strong-share", "0.5", "--ledger").out) == pytest.approx(0.45)
    latest = cli("calibrate", "--strong-share", "0.5", "--ledger", "--last", "2")
    assert float(latest.out) == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--strong-share", "0.3"), "--prompts FILE or --ledger"),
        (("--strong-share", "1.5", "--prompts", "p.txt"), "Invalid value for '--strong-share'"),
        (("--strong-share", "0.5", "--prompts", "gone.txt"), "gone.txt"),
    ],
)
def test_calibrate_refuses(cli, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("a\nbb\n", encoding="utf-8")
    done = cli("calibrate", *arguments, "-o", "router.name=length")
    assert done.code in (1, 2) and done.out == "" and words in done.err


def test_train_hands_over_what_was_given(cli, tmp_path, monkeypatch):
    from edge_router.compile import train_router
    from edge_router.compile.training.settings import Kind
    from edge_router.routing.evaluation import Evaluation, RouterMetrics

    seen = []

    def train(settings, progress, *, paths):
        seen.append(settings)
        measured = Evaluation({"one": {"mine": RouterMetrics(10, 0.5, 0.9, apgr=0.7)}})
        return SimpleNamespace(card=SimpleNamespace(default_threshold=0.25), evaluation=measured)

    monkeypatch.setattr(train_router, "train", train)
    arguments = ("train", "pool.parquet", "--output", str(tmp_path), "--name", "mine")
    done = cli(*arguments, "--evaluation", "a.csv", "--seed", "3", "--threads", "2", "--json")
    assert json.loads(done.out)["one"]["mine"]["apgr"] == 0.7
    assert f"Written to {tmp_path / 'mine'}, threshold 0.25." in done.err
    (settings,) = seen
    assert (settings.pool, settings.output, settings.name) == (Path("pool.parquet"), tmp_path, "mine")
    assert (settings.evaluation, settings.seed, settings.threads) == ((Path("a.csv"),), 3, 2)
    assert settings.kind == "mf"
    for kind in get_args(Kind):
        assert cli(*arguments, "--kind", kind).code == 0 and seen[-1].kind == kind
    assert cli(*arguments, "--kind", "forest").code == 2


def traffic(file: Path, n: int = 120) -> Path:
    """The weak model fails on what must be proved."""
    words = ("primes", "rivers", "kings", "colours", "trains", "stars")
    rows = []
    for i in range(n):
        hard = i % 3 == 0
        prompt = (
            f"{'Prove a theorem about' if hard else 'Name some'} {words[i % 6]} and {words[i // 6 % 6]} {i}"
        )
        rows.append({"prompt": prompt, "weak_score": 0 if hard else 1, "strong_score": 1})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.integration
def test_train_adapts_the_default_to_a_file_and_it_is_found_by_its_name(cli, tmp_path, paths):
    file = traffic(tmp_path / "traffic.jsonl")
    done = cli("train", "--adapt", str(file), "--name", "ours", "--json")
    assert done.code == 0, done.err
    measured = json.loads(done.out)["traffic"]
    assert set(measured) == {"mf", "ours"} and measured["ours"]["n"] == 120
    assert measured["ours"]["apgr"] > measured["mf"]["apgr"]
    assert f"Written to {paths.routers / 'ours'}" in done.err
    routed = cli("evaluate", str(file), "--router", "ours", "--json")
    assert json.loads(routed.out)["traffic"]["ours"]["apgr"] > 0.7


@pytest.mark.integration
def test_train_draws_what_labels_bring(cli, tmp_path):
    file, picture = traffic(tmp_path / "traffic.jsonl", 150), tmp_path / "curve.svg"
    arguments = ("train", "--adapt", str(file), "--base", "static", "--curve", str(picture))
    found = json.loads(cli(*arguments, "--json").out)
    assert [point["labels"] for point in found["learning_curve"]] == [0, 50, 100]
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    done = cli(*arguments)
    assert done.out.split().count("APGR") == 2 and str(picture) in done.err


@pytest.mark.integration
def test_train_on_some_rows_of_a_file(cli, tmp_path):
    file = traffic(tmp_path / "traffic.jsonl", 120)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({**row, "kind": "even" if i % 2 else "odd"}) for i, row in enumerate(rows)]
    file.write_text("\n".join(lines), encoding="utf-8")
    arguments = ("train", "--adapt", str(file), "--base", "static", "--json")
    assert json.loads(cli(*arguments, "--only", "kind=odd").out)["odd"]["mine"]["n"] == 60
    assert "no row has 'blue'" in cli(*arguments, "--only", "kind=blue").err
    assert "write COLUMN=VALUE" in cli(*arguments, "--only", "kind").err


def test_evaluate_draws_quality_over_latency(cli, labelled, tmp_path):
    picture = tmp_path / "latency.svg"
    done = cli("evaluate", str(labelled), "--router", "length", "--latency", str(picture))
    assert done.code == 0 and picture.read_text(encoding="utf-8").count("<circle") == 2
    assert "length: p50 " in done.err


@pytest.mark.parametrize("option", ["--plot", "--latency"])
def test_evaluate_draws_svg_and_png_only(cli, labelled, tmp_path, option):
    done = cli("evaluate", str(labelled), "--router", "length", option, str(tmp_path / "a.jpg"))
    assert done.code == 2 and "must end in .svg or .png" in done.err and done.out == ""


def test_evaluate_without_the_library_for_png(cli, labelled, tmp_path, monkeypatch):
    from edge_router.cli.terminal import picture

    monkeypatch.setattr(picture, "find_spec", lambda name: None)
    done = cli("evaluate", str(labelled), "--router", "length", "--plot", str(tmp_path / "a.png"))
    assert done.code == 1 and done.out == ""
    assert "needs the package pillow" in done.err and "pip install 'edge-router[plot]'" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "POOL or --adapt FILE"),
        (("pool.parquet", "--curve", "a.svg"), "belong to --adapt"),
        (("pool.parquet", "--adapt", "a.csv"), "POOL or --adapt FILE"),
        (("pool.parquet", "--name", "mf"), "the name of a router that ships"),
        (("--adapt", "few.jsonl"), "at least 30"),
        (("--adapt", "few.jsonl", "--base", "fm"), "'fm'"),
    ],
)
def test_train_refuses(cli, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    traffic(Path("few.jsonl"), 12)
    done = cli("train", *arguments)
    assert done.code != 0 and done.out == "" and words in done.err


@pytest.mark.integration
def test_bench_router_says_where_the_time_goes(cli, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("Why is the sky blue?\nProve it.\n", encoding="utf-8")
    done = cli("bench", "router", "--router", "static", "--prompts", str(file))
    assert done.code == 0 and "static on CPUExecutionProvider" in done.out
    assert "running the graph" in done.out and "up to 100 characters" in done.out
    found = json.loads(cli("bench", "router", "--router", "length", "--prompts", str(file), "--json").out)
    assert found["router"] == "length" and found["n"] == 2 and found["p50_ms"] <= found["p99_ms"]


def test_train_leave_out_tells_what_transfers_and_writes_nothing(cli, tmp_path, monkeypatch):
    from edge_router.compile import train_router
    from edge_router.compile.training.transfer import Transfer

    seen = []

    def measured(settings, by, progress, *, paths):
        seen.append((settings.kind, by))
        return {"one": Transfer(1200, 0.61, 0.55, 0.6, None), "two": Transfer(70, None, None, None, None)}

    monkeypatch.setattr(train_router, "measure_transfer", measured)
    arguments = ("train", "pool.parquet", "--kind", "static", "--leave-out")
    done = cli(*arguments, "source")
    assert done.code == 0 and done.out.splitlines()[1].split() == [
        *("one", "1,200", "0.610", "0.550", "0.600", "-", "0.587")
    ]
    assert done.out.splitlines()[-1].split() == ["mean", "0.587"]
    found = json.loads(cli(*arguments, "subset", "--json").out)
    assert found["one"] == {"n": 1200, "whole": 0.61, "within": 0.55, "easy_whole": 0.6, "easy_within": None}
    assert seen == [("static", "source"), ("static", "subset")]
    assert "belongs to POOL" in cli("train", "--adapt", "a.csv", "--leave-out", "source").err


@pytest.mark.integration
def test_train_adapts_a_router_that_goes_on_from_another_s_encoder(cli, tmp_path, paths):
    file = traffic(tmp_path / "traffic.jsonl")
    done = cli("train", "--adapt", str(file), "--base", "bert", "--name", "ours", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["traffic"]["ours"]["apgr"] > 0.6
    assert {each.name for each in (paths.routers / "ours").iterdir()} == {"card.toml", "router.onnx"}
    routed = cli("route", "--json", "-m", "router-ours-0.5", "Prove a theorem about kings and stars 3")
    assert json.loads(routed.out)[0]["score"] is not None
    refused = cli("train", "--adapt", str(file), "--base", "sw_ranking")
    assert refused.code == 1 and "so it cannot be adapted" in refused.err
