"""Conversations are kept where that is asked for only, and gone on with as they were."""

from __future__ import annotations

import json
import stat
import sys

import pytest

from edge_router.cli.chat.kept_conversations import KeptConversation, KeptConversations


@pytest.fixture
def store(paths):
    return KeptConversations(paths.conversations)


def heard(models):
    return [[message.text for message in call.messages] for call in models.weak.calls]


def test_nothing_is_kept_unasked(cli, models, talk, paths):
    assert cli("chat", "hello").code == 0 and talk("hello", "and?").code == 0
    assert not paths.conversations.exists()
    assert "edge-router chat --keep" in cli("history", "--conversations").err


def test_one_is_gone_on_with_in_another_process(cli, models, talk, store):
    done = talk("My name is Ada.", arguments=("--keep", "--system", "Be brief."))
    (kept,) = store.all()
    assert f"edge-router chat --resume {kept.name}" in done.err
    again = talk("What is it?", arguments=("--resume", "last"))
    assert f"Going on with {kept.name}: My name is Ada." in again.err
    assert cli("chat", "--resume", kept.name[:4], "Once more?").out == "You said: Once more?\n"
    said = ["My name is Ada.", "You said: My name is Ada.", "What is it?", "You said: What is it?"]
    assert heard(models)[1:] == [["Be brief.", *said[:3]], ["Be brief.", *said, "Once more?"]]
    (kept,) = store.all()
    assert len(kept.messages) == 6 and kept.system == "Be brief."


def test_one_question_may_begin_one(cli, models, store):
    cli("chat", "--keep", "Who are you?")
    report = json.loads(cli("chat", "--resume", "last", "And I?", "--json").out)
    assert report["text"] == "You said: And I?"
    assert heard(models)[1] == ["Who are you?", "You said: Who are you?", "And I?"]
    assert len(store.all()[0].messages) == 4


def test_what_was_private_once_never_leaves_this_machine(cli, models, talk, store):
    """However it is gone on with, for each question sends all before it along."""
    cli("chat", "--keep", "--private", "My password is plum.")
    (kept,) = store.all()
    assert kept.private
    done = cli("chat", "--resume", "last", "hard: and now?")
    assert done.code == 0 and f"{kept.name} is private: it does not leave this machine." in done.err
    talk("hard: and in a loop?", "/new", "hard: a new one?", arguments=("--resume", kept.name))
    assert cli("chat", "--resume", kept.name, "--model", "strong", "hard: at last?").code != 0
    assert models.strong.calls == [] and len(models.weak.calls) == 4
    assert all(each.private for each in store.all())
    store.save(KeptConversation("f00d00", messages=[{"role": "user", "content": "hello"}]))
    cli("chat", "--resume", "f00d", "--private", "hard: from now on?")
    cli("chat", "--resume", "f00d", "hard: and later?")
    assert models.strong.calls == [] and len(models.weak.calls) == 6


def test_a_new_one_is_another(models, talk, store):
    talk("one", "/new", "two", arguments=("--keep",))
    assert {kept.title for kept in store.all()} == {"one", "two"}


def test_which_there_are_is_listed_and_forgotten(cli, models, store):
    for name, title in (("aaaa11", "first\nline"), ("aaaa22", "second")):
        store.save(KeptConversation(name, None, [{"role": "user", "content": title}]))
    lines = cli("history", "--conversations").out.splitlines()
    assert lines[1].split() == ["aaaa22", "now", "1", "second"]
    assert lines[2].split() == ["aaaa11", "now", "1", "first", "line"]
    assert {each["id"] for each in json.loads(cli("history", "--conversations", "--json").out)} == {
        "aaaa11",
        "aaaa22",
    }
    for name in ("aaaa", "b", "../ledger"):
        done = cli("chat", "--resume", name, "hello")
        assert done.code == 2 and done.err.rstrip().endswith("edge-router history --conversations"), name
    assert cli("ledger", "clear", "-y").err == "Removed 2 kept conversations.\n"
    assert store.all() == []


@pytest.mark.skipif(sys.platform == "win32", reason="who may read a file is said in another way there")
def test_only_its_user_reads_it_and_a_spoilt_file_is_left_out(store):
    kept = KeptConversation()
    store.save(kept)
    file = store.folder / f"{kept.name}.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    for text in ("", "[]", '{"messages": 3}', '{"messages": [1], "system": null, "changed": 0}'):
        (store.folder / "other.json").write_text(text)
        assert [each.name for each in store.all()] == [kept.name], text


def test_what_is_left_of_damaged_ones_is_forgotten_too(cli, store):
    store.save(KeptConversation("aaaa11", None, [{"role": "user", "content": "hello"}]))
    (store.folder / "bbbb22.json").write_text('{"messages": [{"role": "user", "content": "my secr')
    (store.folder / ".cccc33.json.77.draft").write_text('{"system": null, "messages": [{"ro')
    assert cli("ledger", "clear", "-y", "--older-than", "1").code == 0 and len([*store.folder.iterdir()]) == 3
    assert cli("ledger", "clear", "-y").err == "Removed 1 kept conversation and 2 damaged files of them.\n"
    assert list(store.folder.iterdir()) == []


def test_a_name_that_is_empty_is_no_name(cli, models):
    """As a shell's variable that nobody has set leaves it."""
    done = cli("chat", "--resume", "", "What did I say?")
    assert done.code != 0 and "no kept conversation is named ''" in done.err and not done.out
