"""`label`."""

from __future__ import annotations

import json

import pytest

STRONG = ("-o", "strong.model=big")


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"say {n}", "answer": f"You said: say {n}"} for n in range(4)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def test_label_writes_pairs_and_says_what_to_do_with_them(cli, models, prompts):
    models.weak.queue("no", "no")
    done = cli("label", str(prompts), "--judge", "exact", *STRONG, "-o", "strong.price_in=1000")
    file = prompts.with_suffix(".labels.jsonl")
    assert (done.code, done.out) == (0, f"{file}\n")
    assert "4 labels, 4 prompts in this run: weak 0.5, strong 1.0, 0.0080 spent." in done.err
    assert f"edge-router train --adapt {file} --name mine" in done.err
    assert "edge-router calibrate --router mine" in done.err and "about 300 labels" in done.err
    report = json.loads(cli("label", str(prompts), "--judge", "exact", *STRONG, "--json").out)
    assert (report["labelled"], report["new"], report["output"]) == (4, 0, str(file))


@pytest.mark.integration
def test_label_adapts_a_router_and_says_what_changed(cli, models, paths, tmp_path):
    file = tmp_path / "many.jsonl"
    texts = [f"{'Prove a theorem about' if n % 3 == 0 else 'Name some'} kings {n}" for n in range(90)]
    rows = [{"prompt": text, "answer": "no" if "Prove" in text else f"You said: {text}"} for text in texts]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    models.strong.queue(*(row["answer"] for row in rows))
    arguments = ("label", str(file), "--judge", "exact", *STRONG, "--adapt", "ours", "--strong-share", "0.3")
    done = cli(*arguments)
    assert done.code == 0 and (paths.routers / "ours" / "card.toml").is_file(), done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert [line[1] for line in lines[2:]] == ["mf", "ours"] and lines[1][3] == "APGR"
    assert f"Written to {paths.routers / 'ours'}, threshold 0." in done.err
    report = json.loads(cli(*arguments, "--json").out)
    (measured,) = report["adapted"].values()
    assert measured["ours"]["apgr"] > measured["mf"]["apgr"] and report["strong_quality"] == 1


def test_label_stops_at_the_cap(cli, models, prompts):
    prices = ("-o", "strong.price_in=1000", "--max-tokens", "10")
    done = cli("label", str(prompts), "--judge", "exact", *STRONG, *prices, "--budget", "0.1")
    assert done.code == 0 and "4 prompts are left" in done.err and models.strong.calls == []


def test_label_tells_what_could_not_be_answered(cli, models, prompts):
    from edge_router.errors import ContextOverflow

    models.weak.queue(ContextOverflow(9, 8))
    done = cli("label", str(prompts), "--judge", "exact", "--limit", "2", *STRONG)
    assert "warning: no label for 'say 0'" in done.err and "1 labels, 2 prompts" in done.err


def test_ctrl_c_says_how_to_go_on(cli, models, prompts):
    def stop(request):
        raise KeyboardInterrupt

    models.weak.queue("x", stop)
    done = cli("label", str(prompts), "--judge", "exact", *STRONG)
    assert done.code == 130 and "the same command goes on from there" in done.err
    assert cli("label", str(prompts), "--judge", "exact", *STRONG).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--judge", "exact", *STRONG, "--budget", "1"), "strong.price_in"),
        (("--judge", "exact"), "strong.model"),
        (("--judge", "best", *STRONG), "'best'"),
        (("--judge", "exact", *STRONG, "--output", "a.csv"), "must end in .jsonl"),
        (("--judge", "choice", *STRONG, "--answers", "key"), "no column key"),
        (("--judge", "exact", *STRONG, "--adapt", "mf"), "the name of a router that ships"),
    ],
)
def test_label_refuses(cli, models, prompts, arguments, words):
    done = cli("label", str(prompts), *arguments)
    assert done.code in (1, 2) and done.out == "" and words in done.err
    assert models.strong.calls == []
