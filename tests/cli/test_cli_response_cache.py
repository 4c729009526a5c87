"""`edge-router cache`, and what the other verbs tell of answers that are given again."""

from __future__ import annotations

import json
import time

import pytest

from edge_router.chat.events import Finished, TextDelta, Usage
from edge_router.control.reasons import why
from edge_router.ledger import Ledger, Record
from edge_router.response_cache.store import AnswerStore, Entry
from edge_router.response_cache.transcript import Transcript
from edge_router.types import Decision, Reason

ON = ("-o", "response_cache.mode=disk")
ASK = (*ON, "chat", "hi", "--temperature", "0")


def put(store: AnswerStore, key: str, **more: object) -> None:
    transcript = Transcript()
    for event in (TextDelta(f"answer {key}"), Finished("stop", Usage(1, 2))):
        transcript.read(event)
    entry = Entry(key * 64, "", time.time() - 7200, "weak", "small", "maker", text=transcript.dump())
    store.put(entry.__class__(**{**{n: getattr(entry, n) for n in Entry.__slots__}, **more}))  # type: ignore[arg-type]
    store.close()


def test_the_chat_says_that_it_was_answered_before(cli, models):
    models.weak.queue("one", "two")
    first, again = cli(*ASK), cli(*ASK)
    assert (first.out, again.out) == ("one\n", "one\n")
    assert "small (weak): it had been answered before, 0 s ago, 1 token" in again.err
    told = json.loads(cli(*ASK, "--json").out)
    assert told["decision"]["reason"] == "cached" and told["decision"]["age_s"] >= 0
    assert len(models.weak.calls) == 1
    assert cli("chat", "hi", "--temperature", "0").out == "two\n"  # off again


def test_what_is_kept_is_listed_shown_and_cleared(cli, paths):
    done = cli("cache", "list")
    assert "No answer is kept; switch it on with: edge-router config set response_cache.mode=disk" in done.err
    assert "in the memory of the program" in cli("-o", "response_cache.mode=memory", "cache", "list").err
    assert "edge-router chat --temperature 0" in cli(*ON, "cache", "list").err
    assert "No answer is kept." in cli("cache", "clear").err and not paths.responses.exists()
    store = AnswerStore(paths.responses)
    put(store, "a")
    put(store, "b", caller="ann", tier="strong", model="big", endpoint="eu")
    store.touch("b" * 64)
    store.close()
    lines = [line.split() for line in cli("cache", "list").out.splitlines()]
    assert lines[1][:5] == ["b" * 12, "big", "strong", "ann", "1"]
    assert lines[2][:8] == ["a" * 12, "small", "weak", "-", "0", "2", "h", "ago"]
    told = json.loads(cli("cache", "list", "--json").out)
    assert [each["caller"] for each in told["answers"]] == ["ann", None] and told["answers"][0]["hits"] == 1
    shown = cli("cache", "show", "aaa")
    assert (shown.out, shown.code) == ("answer a\n", 0) and "made 2 h ago, given again 0 times" in shown.err
    assert json.loads(cli("cache", "show", "b", "--json").out)["text"] == "answer b"
    assert (
        "no answer has a key like 'c'; see what is there: edge-router cache list"
        in cli("cache", "show", "c").err
    )
    assert "2 answers have keys that begin with ''" in cli("cache", "show", "").err
    assert cli("cache", "clear").code == 2  # nobody can be asked
    assert "Removed 1." in cli("cache", "clear", "--caller", "ann", "-y").err
    assert (
        "Removed 1." in cli("cache", "clear", "-y").err and AnswerStore(paths.responses).totals().answers == 0
    )


def test_a_damaged_file_is_told_and_removed(cli, models, paths):
    paths.responses.write_bytes(b"no database" * 100)
    models.weak.queue("one", "two")
    done = cli(*ASK)
    assert done.out == "one\n" and done.code == 0 and done.err.count("the response cache is not used") == 1
    for verb in (("list",), ("show", "a")):
        told = cli("cache", *verb)
        assert told.code == 1 and "damaged" in told.err and "remove it: edge-router cache clear" in told.err
    removed = cli("cache", "clear", "-y")
    assert "is damaged" in removed.err and "Removed the damaged file." in removed.err
    assert not paths.responses.exists()


@pytest.mark.integration
def test_doctor_tells_of_it(cli, models, paths):
    def found(*more):
        told = json.loads(cli(*more, "doctor", "--offline", "--json").out)
        return next(each for each in told["findings"] if each["name"] == "response cache")

    assert found()["text"] == "off: no answer is kept"
    assert "in memory" in found("-o", "response_cache.mode=memory")["text"]
    store = AnswerStore(paths.responses)
    put(store, "a")
    told = found(*ON)
    assert told["text"].startswith(f"1 answer in {paths.responses}") and told["state"] == "ok"
    assert "edge-router cache clear" in found()["text"] and found()["state"] == "note"
    paths.responses.write_bytes(b"no database" * 100)
    assert "edge-router cache clear" in found(*ON)["text"]


def test_the_ledger_counts_what_nobody_was_asked_for_apart(paths):
    ledger = Ledger(paths.ledger)
    for reason in (Reason.SCORE, Reason.CACHED):
        ledger.record(Record(Decision("strong", reason, age_s=3.0), "big", Usage(10, 5)))
    summary = ledger.summary()
    ledger.close()
    assert summary.by_reason == {"score": 1, "cached": 1} and summary.by_tier == {"strong": 1}
    assert summary.prompt_tokens == {"big": 10} and summary.records == 2


def test_words():
    decision = Decision("weak", Reason.CACHED, age_s=7300.0, similarity=0.98765)
    assert why(decision) == ("it had been answered before, 2 h ago, to a question that is 0.988 the same")


@pytest.mark.integration
def test_calibrating_on_ones_own_prompts(cli, paths, tmp_path):
    assert "--ledger or --prompts FILE" in cli("calibrate", "--cache").err
    few = cli("calibrate", "--cache", "--ledger")
    assert few.code == 2 and "edge-router config set ledger.store_prompts=true" in few.err
    ledger = Ledger(paths.ledger, store_prompts=True)
    for n in range(30):
        ledger.record(
            Record(Decision("weak", Reason.SCORE), "m", prompt=f"What is {n} times {n + 7} in Rome?")
        )
    ledger.record(
        Record(Decision("weak", Reason.SCORE), "m", prompt="Tell me what 3 times 10 is in Rome, please.")
    )
    ledger.record(Record(Decision("weak", Reason.SCORE), "m", prompt="what's 3 times 10 in rome"))
    ledger.close()
    done = cli("calibrate", "--cache", "--ledger")
    assert done.code == 0 and 0.3 < float(done.out.splitlines()[0]) < 1
    assert "response_cache.similarity=" in done.err and "none would" in done.err
    told = json.loads(cli("calibrate", "--cache", "--ledger", "--json").out)
    assert told["n"] == 32 and told["wrapped"] >= 0.94 and told["changed_by_vector_alone"] > 0.5
    assert {"one", "other", "cosine"} == set(told["pairs"][0])
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"What is {n} times 3?" for n in range(40)), encoding="utf-8")
    assert cli("calibrate", "--cache", "--prompts", file).code == 0
    assert "makes no vectors" in cli("calibrate", "--cache", "--prompts", file, "--router", "random").err
