"""What a newcomer types who knows another program, or no quotes: understood, or answered with our words."""

from __future__ import annotations

from typing import Any

import pytest
from table import each

from edge_router.catalog import model_cards
from edge_router.catalog.find import parse_source
from edge_router.catalog.other_names import card_called
from edge_router.cli import elsewhere
from edge_router.cli.command_line import VERBS
from edge_router.engines.base import Capabilities


def test_no_verb_of_ours_is_hidden_by_a_word_of_another_program():
    assert not {*elsewhere.VERBS, *elsewhere.SENTENCES} & {verb.name for verb in VERBS}
    assert not set(elsewhere.VERBS) & set(elsewhere.SENTENCES)


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
        ("generate Say hello", "chat Say hello"),
        ("complete --help", "chat --help"),
        ("delete SmolLM2-135M-Instruct --dry-run", "models remove SmolLM2-135M-Instruct --dry-run"),
        ("convert_weight nosuch", "compile nosuch"),
    ],
)
def test_words_of_ollama_do_what_ours_do(cli, models, theirs, ours):
    assert _untimed(cli(*theirs.split())) == _untimed(cli(*ours.split()))


def _untimed(done: Any) -> tuple[int, str, str]:
    return done.code, done.out, done.err.partition(" tokens")[0]


@each(
    "word, told",
    [
        ("stop", "edge-router config set weak.unload_after_s=600"),
        ("create", "edge-router chat --model FILE.gguf --system TEXT"),
        ("search", "edge-router models pull hf:OWNER/REPO"),
        ("version", "edge-router --version"),
        ("logs", "edge-router service status"),
        ("update", "edge-router models pull"),
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
        ("HF://mlc-ai/Qwen3-0.6B-q4f16_1-MLC", "hf:mlc-ai/Qwen3-0.6B-q4f16_1-MLC@main"),
    ],
)
def test_the_address_of_a_page_on_the_hub_is_its_repository(address, source):
    assert str(parse_source(address)).replace("\\", "/") == source


@each(
    "words, told",
    [
        (("models", "show", "Qwen/Qwen3-0.6B"), "hf:Qwen/Qwen3-0.6B@main"),
        (("models", "show", "owner/repo:Q4_K_M"), "hf:owner/repo:Q4_K_M@main"),
        (("pull", "--offline", "Qwen/Qwen3-0.6B"), "models pull hf:Qwen/Qwen3-0.6B"),
        (("models", "show", "owner/model.gguf"), "there is no file or folder owner/model.gguf"),
        (("models", "show", "./owner/repo"), "there is no file or folder ./owner/repo"),
        (("models", "show", "a/b/c"), "there is no file or folder a/b/c"),
    ],
)
def test_a_repository_is_understood_without_its_mark_where_a_person_types_it(cli, words, told):
    done = cli(*words)
    assert told in done.out + done.err


def test_a_folder_that_is_here_is_no_repository(cli, tmp_path, monkeypatch):
    (tmp_path / "owner" / "repo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    done = cli("models", "show", "owner/repo")
    assert done.code == 1 and str(tmp_path / "owner" / "repo") in done.err, "nobody's repository"


def test_a_path_that_is_set_stays_a_path(cli, models):
    """A folder that is gone must not turn into somebody's repository of that name."""
    done = cli("serve", "-o", "weak.model=owner/repo")
    assert done.code == 2 and "there is no file or folder owner/repo" in done.err


@each(
    "name, card",
    [
        ("qwen3:4b", "Qwen3-4B"),
        ("Qwen3:4B-q4_K_M", "Qwen3-4B"),
        ("llama3.2:3b-instruct-q4_0", "Llama-3.2-3B-Instruct"),
        ("gemma3:1b", "gemma-3-1b-it"),
        ("smollm2:135m", "SmolLM2-135M-Instruct"),
        ("phi4-mini:latest", "Phi-4-mini-instruct"),
        ("qwen3:4b-q8_0", None),  # another file than the card's
        ("qwen3", None),
        ("phi4", "phi-4"),
        ("SmolLM2-135M", None),  # the model that was not taught to chat
        ("llama3.2:7b", None),
        (":", None),
        ("", None),
    ],
)
def test_names_of_ollama_are_cards(name, card):
    assert card_called(name, model_cards()) == card


@each(
    "words, told",
    [
        ("plan --context 5", "Did you mean --context-window-size?"),
        ("plan --chunk=5", "Did you mean --prefill-chunk-size?"),
        ("chat --ctx-size 5 hi", "--set weak.context_window_size=TOKENS"),
        ("chat --temp 1 hi", "Did you mean --temperature?"),
        ("chat -n 5 hi", "Did you mean --max-tokens?"),
    ],
)
def test_options_of_other_programs_are_answered_with_ours(cli, words, told):
    done = cli(*words.split())
    assert (
        done.code == 2 and told in done.err and done.err.startswith(f"Usage: edge-router {words.split()[0]}")
    )


def test_what_looks_like_an_option_behind_two_dashes_is_a_word(cli, models):
    assert cli("chat", "--quiet", "--", "-n", "5").out == "You said: -n 5\n"


@pytest.mark.parametrize("learned", [False, None, True])
def test_thoughts_of_a_model_that_has_none_are_told_to_be_missing(cli, models, learned):
    models.weak.capabilities = Capabilities(learned_thoughts=learned)
    told = [cli("chat", *more, "easy").err for more in ((), ("--thinking",), ("--no-thinking",))]
    assert ["has not learned to think" in err for err in told] == [False, learned is False, False]
