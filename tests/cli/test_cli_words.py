"""What a newcomer types who knows another program, or no quotes: understood, or answered with our words."""

from __future__ import annotations

from typing import Any

import pytest
from table import each

from edge_router.catalog.find import parse_source
from edge_router.cli.command_line import ELSEWHERE, VERBS
from edge_router.engines.base import Capabilities


def test_no_verb_of_ours_is_hidden_by_a_word_of_another_program():
    assert not set(ELSEWHERE) & {verb.name for verb in VERBS}


@each("ours, arguments", [("", ()), ("", ("help",)), ("", ("-q",)), ("chat ", ("help", "chat"))])
def test_help_is_shown_where_nothing_else_was_asked(cli, ours, arguments):
    done = cli(*arguments)
    assert (done.code, done.err) == (0, "") and done.out.startswith(f"Usage: edge-router {ours}")
    assert ours or 'Begin with: edge-router chat "' in done.out


@each(
    "theirs, ours",
    [
        ("list", "models list"),
        ("ls --json", "models list --json"),
        ("show SmolLM2-135M-Instruct", "models show SmolLM2-135M-Instruct"),
        ("show", "models show"),
        ("pull nosuch", "models pull nosuch"),
        ("rm SmolLM2-135M-Instruct --dry-run", "models remove SmolLM2-135M-Instruct --dry-run"),
        ("run nosuch hi", "chat --model nosuch hi"),
        ("run weak Say hello", "chat --model weak Say hello"),
        ("run --help", "chat --help"),
        ("run", "chat"),
    ],
)
def test_words_of_ollama_do_what_ours_do(cli, models, theirs, ours):
    assert _untimed(cli(*theirs.split())) == _untimed(cli(*ours.split()))


def _untimed(done: Any) -> tuple[int, str, str]:
    return done.code, done.out, done.err.partition(" tokens")[0]


@each(
    "word, told",
    [
        ("ps", "edge-router artifacts list"),
        ("What is it?", "edge-router chat 'What is it?'"),
        ("chta", "'chat'"),
    ],
)
def test_what_is_no_verb_is_answered_with_one(cli, word, told):
    done = cli(word)
    assert done.code == 2 and told in done.err


def test_words_without_quotes_are_one_question(cli, models):
    done = cli("chat", "what", "is", "--quiet", "this")
    assert (done.code, done.out) == (0, "You said: what is this\n")


@each(
    "address, source",
    [
        ("hf.co/Qwen/Qwen3-0.6B", "hf:Qwen/Qwen3-0.6B@main"),
        ("hf.co/Qwen/Qwen3-0.6B-GGUF:Q8_0", "hf:Qwen/Qwen3-0.6B-GGUF:Q8_0@main"),
        ("https://huggingface.co/Qwen/Qwen3-0.6B/", "hf:Qwen/Qwen3-0.6B@main"),
        ("https://huggingface.co/Qwen/Qwen3-0.6B/tree/v1#files", "hf:Qwen/Qwen3-0.6B@v1"),
        ("HuggingFace.co/a/b/blob/main/c/d.gguf?download=true", "hf:a/b/c/d.gguf@main"),
        ("https://example.org/a/b", "https:/example.org/a/b"),  # a path, as anything else with a slash
        ("hf.co/a", "hf.co/a"),
    ],
)
def test_the_address_of_a_page_on_the_hub_is_its_repository(address, source):
    assert str(parse_source(address)).replace("\\", "/") == source


def test_a_repository_without_its_mark_is_told_with_it(cli, models):
    done = cli("chat", "--model", "Qwen/Qwen3-0.6B", "hi")
    assert done.code == 2 and done.err.strip().endswith("edge-router models pull hf:Qwen/Qwen3-0.6B")


@pytest.mark.parametrize("learned", [False, None, True])
def test_thoughts_of_a_model_that_has_none_are_told_to_be_missing(cli, models, learned):
    models.weak.capabilities = Capabilities(learned_thoughts=learned)
    told = [cli("chat", *more, "easy").err for more in ((), ("--thinking",), ("--no-thinking",))]
    assert ["has not learned to think" in err for err in told] == [False, learned is False, False]
