"""`chat`: what goes to stdout, what to stderr, and the JSON contract."""

from __future__ import annotations

import io
import json
import logging
import os
import sys

import pytest

from edge_router.chat.events import Finished, ReasoningDelta, TextDelta
from edge_router.cli.terminal import output
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import GenerationFailed, StrongUnreachable


def test_an_easy_question_is_answered_here(cli, models):
    models.weak.queue("Paris is the capital of France.")
    done = cli("chat", "What is the capital of France?")
    assert (done.code, done.out) == (0, "Paris is the capital of France.\n")
    assert done.err == "small (weak): score 0.100 is below the threshold 0.500, 6 tokens\n"
    assert not models.strong.calls


def test_a_hard_question_goes_to_the_strong_model(cli, models):
    models.strong.queue("42")
    done = cli("chat", "a hard one")
    assert (done.code, done.out) == (0, "42\n")
    assert "big (strong): score 0.900 reaches the threshold 0.500" in done.err


def test_json_is_the_contract(cli, models):
    models.weak.queue("Two words.")
    done = cli("chat", "hello there", "--json")
    assert done.code == 0 and done.err == ""
    (line,) = done.out.splitlines()
    report = json.loads(line)
    assert set(report) == {"text", "model", "decision", "usage", "timings", "fallback_cause"}
    assert report["fallback_cause"] is None
    assert report["text"] == "Two words." and report["model"] == "small"
    assert report["decision"] == {"score": 0.1, "threshold": 0.5, "model": "weak", "reason": "score"}
    assert report["usage"] == {"prompt_tokens": 2, "completion_tokens": 2}
    names = {"score_ms", "ttft_ms", "total_ms", "prefill_tokens_per_s", "decode_tokens_per_s"}
    assert set(report["timings"]) == names
    assert report["timings"]["total_ms"] > 0


def test_thoughts_stand_beside_the_answer_or_are_hidden(cli, models):
    thoughts = [ReasoningDelta("Is it "), ReasoningDelta("Paris?"), TextDelta("Paris.")]
    models.weak.queue(thoughts, thoughts, thoughts, thoughts)
    done = cli("chat", "What is the capital of France?")
    assert done.out == "Paris.\n" and done.err.startswith("Is it Paris?\n\nsmall (weak)")
    hidden = cli("chat", "What is the capital of France?", "--no-thinking")
    assert hidden.out == "Paris.\n" and "Is it" not in hidden.err
    assert [call.reasoning.shown for call in models.weak.calls] == [True, False]
    cli("chat", "What is the capital of France?", "--thinking")
    assert [call.reasoning.enabled for call in models.weak.calls] == [None, None, True]
    assert json.loads(cli("chat", "hello there", "--json").out)["text"] == "Paris."


def test_json_without_usage_still_has_its_fields(cli, models):
    class Silent(ScriptedEngine):
        def stream(self, prompt, cancel):
            yield from (TextDelta("hm"), Finished("stop"))

    models.weak = Silent(model_id="small")
    report = json.loads(cli("chat", "hello", "--json").out)
    assert report["usage"] == {"prompt_tokens": None, "completion_tokens": None}


def test_what_is_piped_in_follows_the_prompt(cli, models):
    assert cli("chat", "Summarise:", stdin="line one\nline two\n").code == 0
    assert models.weak.calls[0].messages[0].text == "Summarise:\n\nline one\nline two"


@pytest.mark.parametrize("stdin", ["", "  \n"])
def test_an_empty_pipe_adds_nothing(cli, models, stdin):
    cli("chat", "hello", stdin=stdin)
    assert models.weak.calls[0].messages[0].text == "hello"


def test_a_pipe_alone_is_the_prompt(cli, models):
    assert cli("chat", stdin="why?\n").out == "You said: why?\n"


@pytest.mark.parametrize("arguments", [("chat",), ("chat", ""), ("chat", "--json"), ("chat", "--json", " ")])
def test_no_prompt_at_all_is_a_usage_error(cli, models, arguments):
    done = cli(*arguments)
    assert done.code == 2 and done.out == "" and "prompt" in done.err
    assert not models.weak.calls


def test_options_become_the_request(cli, models):
    done = cli(
        *("chat", "hello", "--system", "Be brief.", "--temperature", "0", "--top-p", "0.9", "--seed", "7"),
        *("--max-tokens", "3", "--private"),
    )
    assert done.code == 0
    (request,) = models.weak.calls
    assert [message.role for message in request.messages] == ["system", "user"]
    assert (request.sampling.temperature, request.sampling.top_p, request.sampling.seed) == (0, 0.9, 7)
    assert request.max_tokens == 3 and request.private


def test_settings_reach_the_configuration(cli, models):
    cli("chat", "x", "--offline", "--device", "cpu", "--threads", "3", "-o", "router.threshold=0.7")
    (config,) = models.configs
    assert config.offline and config.weak.device == "cpu" and config.weak.threads == 3
    assert config.router.threshold == 0.7


@pytest.mark.parametrize(
    "order", [("-o", "weak.threads=3", "chat", "x"), ("chat", "x", "-o", "weak.threads=3")]
)
def test_shared_options_stand_before_or_after_the_verb(cli, models, order):
    assert cli(*order).code == 0
    assert models.configs[0].weak.threads == 3


def test_private_never_asks_the_strong_model(cli, models):
    done = cli("chat", "a hard one", "--private")
    assert done.code == 0 and not models.strong.calls
    assert "the question is private; score 0.900, threshold 0.500" in done.err


def test_a_named_model_is_asked_without_scoring(cli, models):
    done = cli("chat", "easy", "--model", "strong")
    assert done.out == "You said: easy\n" and done.err == "big (strong): as asked, 3 tokens\n"


def test_a_fallback_is_told(cli, models):
    models.strong.queue(StrongUnreachable("https://example.org/v1", "connection refused"))
    done = cli("chat", "a hard one")
    assert done.code == 0 and done.out == "You said: a hard one\n"
    first, second = done.err.splitlines()
    assert first.startswith("the strong model could not answer: https://example.org/v1 cannot be reached")
    assert second.startswith("small (weak): no strong model can be asked; score 0.900")


def test_an_error_after_the_first_words_keeps_them_and_fails(cli, models):
    models.weak.queue(["Once upon", GenerationFailed("small", "the device was lost")])
    done = cli("chat", "tell me a story")
    assert done.code == 1 and done.out == "Once upon\n"
    assert done.err.startswith("error: the engine small failed while generating: the device was lost; ")


def test_json_prints_nothing_when_it_fails(cli, models):
    models.weak.queue(["Once", GenerationFailed("small", "the device was lost")])
    done = cli("chat", "tell me a story", "--json")
    assert done.code == 1 and done.out == ""


def test_a_prompt_that_is_too_long_says_by_how_much(cli, models):
    done = cli("chat", "word " * 120, "--private")
    assert done.code == 1 and done.out == ""
    assert "the prompt has 120 tokens, 21 more than the context of 100 leaves room for; " in done.err
    assert done.err.rstrip().endswith("edge-router chat -o weak.context_window_size=1024")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--temperature", "5"), "--temperature: must be between 0 and 2, not 5.0"),
        (("--max-tokens", "0"), "--max-tokens: must be between 1 and 2147483647, not 0"),
        (("--model", "router-mf-1.5"), "the threshold must be between 0 and 1, not 1.5"),
        (("--model", "router-radnom-0.5"), "there is no router named 'radnom', the nearest is random"),
        (
            ("--model", "smollm2-135"),
            "there is no model named 'smollm2-135', the nearest is SmolLM2-135M-Instruct",
        ),
        (("-o", "router.threshold=1.5"), "router.threshold = 1.5: must be between 0 and 1"),
        (("-o", "router.treshold=1"), "no such key; did you mean router.threshold?"),
        (("-o", "router.threshold"), "'router.threshold' is not NAME=VALUE"),
        (("--threads", "0"), "weak.threads = 0: must be between 1 and 1024"),
        (("--threads", "two"), "Invalid value for '--threads'"),
        (("--config", "/nowhere/c.toml"), "the configuration file /nowhere/c.toml cannot be read"),
    ],
)
def test_bad_input_is_a_usage_error(cli, models, arguments, words):
    done = cli("chat", "hello", *arguments)
    assert done.code == 2 and done.out == ""
    assert words in done.err
    assert not models.weak.calls


def test_an_answer_that_ends_in_a_line_break_gets_no_second_one(cli, models):
    models.weak.queue(["a list:\n"])
    assert cli("chat", "x").out == "a list:\n"


def test_quiet_leaves_only_the_answer(cli, models):
    done = cli("chat", "-q", "x")
    assert done.err == "" and done.out == "You said: x\n"


def test_an_argument_that_is_not_utf8_is_made_readable(cli, models):
    cli("chat", "caf\udce9?")
    assert models.weak.calls[0].messages[0].text == "caf�?"


def test_an_answer_that_was_cut_off_says_so(cli, models):
    assert "cut off at the token limit" in cli("chat", "one two three", "--max-tokens", "2").err


def test_the_answer_of_a_weak_model_named_by_its_card(cli, models):
    cli("chat", "x", "--model", "smollm2-135m-instruct")
    assert models.configs[-1].weak.model == "smollm2-135m-instruct"
    assert models.weak.calls[-1].target == "weak"


def test_json_without_a_prompt_does_not_begin_a_conversation(cli, models):
    class Keyboard:
        closed = False

        def isatty(self):
            return True

    done = cli("chat", "--json", stdin=Keyboard())
    assert done.code == 2 and "--json needs a prompt" in done.err


def test_ctrl_c_in_this_process(cli, models, monkeypatch):
    from edge_router.cli.chat.turn import Turn

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Turn, "answer", interrupted)
    done = cli("chat", "x")
    assert (done.code, done.out, done.err) == (130, "", "")


def test_a_pipe_that_stays_open_says_what_is_waited_for(cli, models, monkeypatch):
    import io
    import time

    class Slow(io.StringIO):
        def read(self, *_):
            time.sleep(0.2)
            return "late"

    monkeypatch.setattr("edge_router.cli.terminal.piped.SLOW_INPUT_S", 0.05)
    done = cli("chat", "x", stdin=Slow())
    assert done.out == "You said: x\n\nlate\n" and "reading standard input until it ends" in done.err


def test_what_is_logged_in_mid_answer_comes_on_a_line_of_its_own_behind_it(cli, models, monkeypatch):
    """Such as that the ledger can't be kept, which is found out while the answer ends."""

    def answer(request):
        yield "half "
        logging.getLogger("edge_router.ledger").warning("the ledger is not kept")
        yield "whole"

    both, lines = io.StringIO(), []
    monkeypatch.setattr(output, "write", lambda text: both.write(text))
    monkeypatch.setattr(output, "say", lambda text, style="": lines.append((both.getvalue(), text)))
    models.weak.queue(answer)
    cli("chat", "hi")
    assert both.getvalue() == "half whole\n"
    [seen] = [seen for seen, text in lines if text == "warning: the ledger is not kept"]
    assert seen in ("", "half whole\n")


def test_with_debug_nothing_that_is_logged_waits(cli, models, monkeypatch):
    def answer(request):
        yield "half "
        logging.getLogger("edge_router.ledger").warning("the ledger is not kept")
        yield "whole"

    both, lines = io.StringIO(), []
    monkeypatch.setattr(output, "write", lambda text: both.write(text))
    monkeypatch.setattr(output, "say", lambda text, style="": lines.append((both.getvalue(), text)))
    models.weak.queue(answer)
    cli("chat", "hi", "--debug")
    assert any(text == "warning: the ledger is not kept" and "whole" not in seen for seen, text in lines)


def test_behind_a_pipe_what_is_said_begins_a_line(monkeypatch):
    """What `| tee` puts through may come later than what we say."""
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", shown)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        output.part()
    os.close(reading)
    assert shown.getvalue() == "\n"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    output.part()
    assert shown.getvalue() == "\n"
