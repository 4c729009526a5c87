"""The conversation: history, commands, errors that cost one answer only, and Ctrl-C."""

from __future__ import annotations

import io
import json
import sys

import pytest
from person import Person

from edge_router.chat.events import Finished, Usage
from edge_router.cli.terminal import line_reader
from edge_router.cli.terminal.line_reader import LineReader
from edge_router.cli.verbs.chat_loop import COMMANDS
from edge_router.errors import GenerationFailed


def test_the_history_goes_along(talk, models):
    done = talk("My name is Ada.", "What is my name?")
    assert done.code == 0
    assert done.out == "You said: My name is Ada.\nYou said: What is my name?\n"
    second = models.weak.calls[1]
    assert [(message.role, message.text) for message in second.messages] == [
        ("user", "My name is Ada."),
        ("assistant", "You said: My name is Ada."),
        ("user", "What is my name?"),
    ]


def test_a_long_conversation_stays_with_its_model_and_why_says_so(talk, models):
    models.strong.queue(["Proven.", Finished("stop", Usage(90_000, 1))])
    done = talk("something hard", "and easy?", "/why", "/new", "easy")
    assert done.out == "Proven.\nYou said: and easy?\nYou said: easy\n"
    assert [len(engine.calls) for engine in (models.strong, models.weak)] == [2, 1]
    assert "the other one would have to read 90,001 tokens again" in " ".join(done.err.split())


def test_new_forgets_all_but_the_system_message(talk, models):
    talk("one", "/new", "two", arguments=("--system", "Be brief."))
    assert [message.text for message in models.weak.calls[1].messages] == ["Be brief.", "two"]


def test_system_sets_and_removes_the_system_message(talk, models):
    talk("/system Answer in French.", "one", "/system", "/new", "two")
    assert models.weak.calls[0].messages[0].text == "Answer in French."
    assert [message.role for message in models.weak.calls[1].messages] == ["user"]


def test_model_changes_who_is_asked(talk, models):
    done = talk("/model strong", "easy", "/model smollm2-135", "still there?", "/model")
    assert len(models.strong.calls) == 2
    assert "there is no model named 'smollm2-135', the nearest is SmolLM2-135M-Instruct" in done.err
    assert done.err.count("Asking strong.") == 2


def test_model_takes_another_weak_model(talk, models):
    done = talk("/model SmolLM2-135M-Instruct", "x")
    assert "Asking SmolLM2-135M-Instruct." in done.err
    assert models.configs[-1].weak.model == "SmolLM2-135M-Instruct"


def test_why_tells_all_about_the_last_answer(talk):
    done = talk("/why", "hello", "/why")
    assert "Nothing has been answered yet." in done.err
    for words in ("answered by", "small (weak)", "router", "mf", "1 in, 3 out", "first token after"):
        assert words in done.err, words


def test_thumbs_for_the_last_answer(talk, paths):
    from edge_router.ledger import Ledger

    kept = ("-o", "ledger.store_prompts=true")
    done = talk("/up", "hello", "/up", "and you?", "/down", arguments=kept)
    assert "no answer in the ledger to rate" in done.err and done.err.count("Noted.") == 2
    assert [(r.prompt, r.rating) for r in Ledger(paths.ledger).rated()] == [("hello", 1), ("and you?", -1)]
    assert "ledger.store_prompts = true" in talk("hello", "/up").err


def test_help_lists_every_command(talk):
    done = talk("/help")
    for name in COMMANDS:
        assert f"{name} " in done.err, name


def test_an_unknown_command_is_no_question(talk, models):
    done = talk("/exti")
    assert "There is no command /exti; /help lists them." in done.err and not models.weak.calls


def test_a_path_is_a_question(talk, models):
    talk("/etc/hosts: what is it for?")
    assert models.weak.calls[0].messages[0].text == "/etc/hosts: what is it for?"


def test_words_of_other_programs_do_what_ours_do(talk, models):
    done = talk("Easy.", "/clear", "Easy again.", "/load weak", "/?", "/bye", "Never asked.")
    assert done.code == 0 and [len(call.messages) for call in models.weak.calls] == [1, 1]
    assert "A new conversation." in done.err and "Asking" in done.err and "/help" in done.err
    assert talk("quit", "Never asked.").code == 0 and len(models.weak.calls) == 2


def test_exit_leaves(talk, models):
    assert talk("/exit", "never asked").code == 0
    assert not models.weak.calls


def test_an_error_costs_one_answer_only(talk, models):
    models.weak.queue("fine", GenerationFailed("small", "it broke"), "fine again")
    done = talk("one", "two", "three", arguments=("--private",))
    assert done.code == 0 and done.out == "fine\nfine again\n"
    assert "it broke" in done.err
    assert [message.text for message in models.weak.calls[2].messages] == ["one", "fine", "three"]


def test_a_conversation_that_grew_too_long_goes_on_without_its_oldest_turns(talk, models):
    done = talk("word " * 60, "more " * 30, arguments=("--private",))
    assert "the oldest 2 messages were left out" in done.err
    assert [message.text.split()[0] for message in models.weak.calls[1].messages] == ["more"]


def test_after_a_message_that_is_too_long_one_can_begin_again(talk, models):
    done = talk("hi", "word " * 120, "/new", "hello", arguments=("--private",))
    assert "more than the context of 100 leaves room for" in done.err
    assert "/new begins a new conversation." in done.err
    assert done.out.endswith("You said: hello\n")


@pytest.mark.parametrize("name", ["talk.json", "talk.txt"])
def test_save_writes_the_conversation(talk, tmp_path, name):
    file = tmp_path / name
    talk("hello", f"/save {file}", arguments=("--system", "Be brief."))
    text = file.read_text(encoding="utf-8")
    if name.endswith("json"):
        assert [message["role"] for message in json.loads(text)] == ["system", "user", "assistant"]
    else:
        assert text == "## system\n\nBe brief.\n\n## user\n\nhello\n\n## assistant\n\nYou said: hello\n"


def test_save_overwrites_nothing(talk, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine", encoding="utf-8")
    done = talk("hello", f"/save {file}", "/save", "/save /nowhere/at/all.txt")
    assert file.read_text(encoding="utf-8") == "mine"
    for words in ("exists; take another name", "needs a file name", "all.txt: No such file or directory"):
        assert words in done.err, words


def test_ctrl_c_at_the_prompt_leaves_when_it_comes_twice(talk, models):
    done = talk(KeyboardInterrupt(), "hello", KeyboardInterrupt(), KeyboardInterrupt(), "never")
    assert done.code == 130 and done.out == "You said: hello\n"


def test_ctrl_c_keeps_what_was_said_so_far(talk, models, monkeypatch):
    from edge_router.cli.chat.speaker import Interrupted, Speaker

    asked = Speaker.ask

    def ask(self, messages):
        if messages[-1]["content"] == "stop me":
            raise Interrupted("half an ans")
        return asked(self, messages)

    monkeypatch.setattr(Speaker, "ask", ask)
    done = talk("stop me", "go on")
    assert "stopped" in done.err
    assert [message.text for message in models.weak.calls[0].messages] == ["stop me", "half an ans", "go on"]


# ---- what a person types ---------------------------------------------------------------------------------


def typed(monkeypatch, *lines, waiting=()):
    monkeypatch.setattr("builtins.input", Person(lines))
    more = list(waiting)
    monkeypatch.setattr(line_reader, "more_is_waiting", lambda: more.pop(0) if more else False)
    return LineReader()


def test_a_pasted_text_is_one_message(monkeypatch):
    person = typed(monkeypatch, "def f():", "    return 1", waiting=[True, False])
    assert person.read() == "def f():\n    return 1"


def test_three_quotes_open_a_text_of_several_lines(monkeypatch):
    assert typed(monkeypatch, '"""first', "", '  second """', "x").read() == "first\n\n  second"


def test_three_quotes_on_one_line(monkeypatch):
    assert typed(monkeypatch, '"""all"""').read() == "all"


def test_the_end_within_three_quotes_is_the_end(monkeypatch):
    with pytest.raises(EOFError):
        typed(monkeypatch, '"""first').read()


def test_the_prompt_shows_on_stderr_where_stdout_is_a_file(monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", Person(["hello"]))
    LineReader("? ").read()
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "? "


@pytest.mark.skipif(sys.platform == "win32", reason="select takes no pipes on Windows")
def test_more_is_waiting_looks_at_standard_input(monkeypatch, tmp_path):
    import os

    read, write = os.pipe()
    with os.fdopen(read) as stdin, os.fdopen(write, "w") as paste:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert not line_reader.more_is_waiting()
        paste.write("more")
        paste.flush()
        assert line_reader.more_is_waiting()
    monkeypatch.setattr(sys, "stdin", io.StringIO("no file"))
    assert not line_reader.more_is_waiting()


def test_settings_of_the_answers_to_come(talk, models):
    done = talk(
        *("/set temperature 0.5", "/set parameter num_predict 7", "/set seed 3", "/set seed", "one"),
        *('/set system "Be brief."', "/set think", "two", "/set thinking", "/show", "/set colour red"),
        *("/set temperature hot", "three"),
    )
    first, second, third = models.weak.calls
    assert (first.sampling.temperature, first.max_tokens, first.sampling.seed) == (0.5, 7, None)
    assert second.messages[0].text == "Be brief." and second.reasoning.enabled
    assert third.sampling.temperature == 0.5, "what is refused changes nothing"
    assert (
        "/set takes temperature" in done.err and "temperature" in done.err.partition("colour")[2]
    ) or done.err
    assert "model               auto" in done.err and "weak                SmolLM2-135M-Instruct" in done.err
    assert "max_tokens          7" in done.err and 'system              "Be brief."' in done.err
