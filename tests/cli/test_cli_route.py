"""`route`: decisions without answers."""

from __future__ import annotations

import json


def test_route_prints_a_table(cli, models):
    done = cli("route", "an easy one", "a hard one")
    assert done.code == 0 and done.err == ""
    head, easy, hard = done.out.splitlines()
    assert head.split() == ["model", "score", "threshold", "reason", "prompt"]
    assert easy.split(maxsplit=4) == ["weak", "0.100", "0.500", "score", "an easy one"]
    assert hard.split(maxsplit=4) == ["strong", "0.900", "0.500", "score", "a hard one"]
    assert not models.weak.calls and not models.strong.calls


def test_route_json_is_a_list_of_decisions(cli, models):
    done = cli("route", "--json", "--offline", stdin="a hard one\n\nan easy one\n")
    decisions = json.loads(done.out)
    assert decisions == [
        {"score": 0.9, "threshold": 0.5, "model": "weak", "reason": "offline", "would_escalate": True},
        {"score": 0.1, "threshold": 0.5, "model": "weak", "reason": "score"},
    ]


def test_route_takes_another_threshold(cli, models):
    assert json.loads(cli("route", "easy", "--json", "-m", "router-mf-0.05").out)[0]["model"] == "strong"


def test_typical_prompts_show_what_share_goes_where(cli, models):
    from edge_router.routing.thresholds.typical import TYPICAL

    n = sum(map(len, TYPICAL.values()))
    done = cli("route", "--typical", "-m", "router-mf-0.05")
    *kinds, whole = done.out.splitlines()[1:]
    assert done.code == 0 and [line.split("  ")[0] for line in kinds] == list(TYPICAL)
    assert whole.split() == ["all", "0", "(0%)", str(n), "(100%)"]
    assert f"{n} (100%)  0 (0%)" in cli("route", "--typical", "--private", "-m", "router-mf-0.05").out
    assert len(json.loads(cli("route", "--typical", "--json").out)) == n
    assert cli("route", "--typical", "hi").code == 2


def test_route_without_a_prompt_is_a_usage_error(cli, models):
    done = cli("route")
    assert done.code == 2 and "there is no prompt" in done.err


def test_route_shortens_long_prompts_and_forced_ones_have_no_score(cli, models):
    line = cli("route", "word\n" * 50, "-m", "weak").out.splitlines()[1]
    assert line.split()[:4] == ["weak", "-", "-", "forced"] and line.endswith("…")
