"""What is asked of mlc_llm, in which types, and what becomes of its answers. See standin/."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_router.chat.events import Event, Finished, TextDelta, Usage
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, JsonOutput, Need, SamplingParams, SignalRequest
from edge_router.config.settings import Config
from edge_router.device import Gpu
from edge_router.engines.base import answered
from edge_router.engines.local.sampler import SamplingDefaults
from edge_router.engines.mlc.chunks import refusal_of
from edge_router.engines.mlc.engine import MlcEngine
from edge_router.engines.mlc.limits import limits
from edge_router.engines.mlc.load import load
from edge_router.errors import (
    ArtifactMissing,
    BuildFailed,
    Cancelled,
    ContextOverflow,
    EngineUnavailable,
    GenerationFailed,
    InvalidRequest,
    OutOfMemory,
    UnsupportedRequest,
)
from edge_router.system.paths import Paths
from edge_router.system.worker_process import Child
from edge_router.types import SilentProgress

FAILS, CRASHES, EXHAUSTED, PREEMPTED, ENDLESS, STALLS = 13, 14, 15, 16, 17, 18  # seeds; see standin/
SAID = "Voilà, the capital."
HELLO = ChatRequest((Message("user", "Where?"),))
Opener = Callable[..., MlcEngine]


class Clock:
    """Goes on by a step whenever it is looked at."""

    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def ask(engine: MlcEngine, request: ChatRequest = HELLO, **sampling: Any) -> list[Event]:
    asked = replace(request, sampling=replace(request.sampling, **sampling))
    return list(answered(engine, asked, threading.Event()))


def text_of(deltas: list[Event]) -> str:
    return collect(deltas).text


# ---- loading -------------------------------------------------------------------------------------------------


def test_everything_that_was_configured_reaches_the_engine(
    mlc: Any, open_engine: Opener, sliding_folder: Path
) -> None:
    settings = {
        "weak.model": str(sliding_folder),
        "weak.device": "vulkan",
        "weak.prefill_chunk_size": 64,
        "weak.max_sequences": 3,
        "mlc.gpu_memory_utilization": 0.5,
        "weak.sliding_window_size": 32,
        "weak.attention_sink_size": 4,
    }
    engine = open_engine(**settings)
    (opened,), (compiled,) = mlc.events("open"), mlc.events("compile")
    assert (opened["device"], opened["mode"]) == ("vulkan", "local")
    assert opened["engine_config"] == {
        "max_num_sequence": 3,
        "max_single_sequence_length": 128,
        "max_total_sequence_length": 3 * (128 + 16),
        "prefill_chunk_size": 64,
        "sliding_window_size": 32,
        "attention_sink_size": 4,
        "gpu_memory_utilization": 0.5,
    }
    assert (compiled["device"], compiled["quantization"]) == ("vulkan", "q4f16_1")
    assert compiled["overrides"] == {
        "context_window_size": 128,
        "prefill_chunk_size": 64,
        "max_batch_size": 3,
        "sliding_window_size": 32,
        "attention_sink_size": 4,
    }
    assert (engine.model_id, engine.capabilities.context_window) == (
        "tiny-mistral",
        128,
    ) and Need.TOOLS not in engine.capabilities.serves


def test_the_mode_follows_the_number_of_answers_at_once(mlc: Any, open_engine: Opener) -> None:
    open_engine()
    open_engine(**{"mlc.mode": "server"})
    one, server = mlc.events("open")
    assert (one["mode"], server["mode"]) == ("interactive", "server")
    assert {event["engine_config"]["max_total_sequence_length"] for event in (one, server)} == {128 + 16}


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({}, 0.75),  # nine tenths of the ten that are free, of twelve
        ({"weak.vram_budget": "6GiB"}, 0.5),
        ({"weak.vram_budget": "12GiB"}, 0.833),  # others hold two
        ({"weak.vram_budget": "6GiB", "mlc.gpu_memory_utilization": 0.9}, 0.9),
    ],
)
def test_the_budget_is_told_as_a_share_of_the_gpus_memory(
    mlc: Any, open_engine: Opener, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], share: float
) -> None:
    gpu = Gpu("A", "nvidia", 12 << 30, 10 << 30)
    monkeypatch.setattr("edge_router.vram.budget.gpus", lambda: (gpu,))
    open_engine(**{"mlc.mode": "server", **settings})
    (opened,) = mlc.events("open")
    assert opened["engine_config"]["gpu_memory_utilization"] == share


def test_a_longer_context_than_fits_is_shortened_and_said(
    mlc: Any, config: Config, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in's tiny model with a context of a million tokens, on a GPU of two GiB."""
    monkeypatch.setattr("edge_router.vram.budget.gpus", lambda: (Gpu("A", "nvidia", 2 << 30, 1 << 30),))
    said: list[str] = []
    monkeypatch.setattr(SilentProgress, "note", lambda self, text: said.append(text))
    engine = load(config.replace(**{"weak.context_window_size": 1 << 20}), paths, SilentProgress())
    engine.close()
    (opened,) = mlc.events("open")
    context = opened["engine_config"]["max_single_sequence_length"]
    assert 1024 <= context < 1 << 20 and engine.capabilities.context_window == context
    assert any(f"context_window_size 1048576 became {context}" in text for text in said)


def test_what_slides_needs_no_whole_context(
    mlc: Any, open_engine: Opener, sliding_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_router.vram.budget.gpus", lambda: (Gpu("A", "nvidia", 2 << 30, 1 << 30),))
    asked = {"weak.context_window_size": 1 << 20, "weak.sliding_window_size": 4096}
    open_engine(**{"weak.model": str(sliding_folder), **asked})
    (opened,) = mlc.events("open")
    given = opened["engine_config"]
    assert given["max_single_sequence_length"] == 1 << 20
    assert 4096 + given["prefill_chunk_size"] <= given["max_total_sequence_length"] < 2 * 4096


def test_what_does_not_fit_the_budget_is_refused_before_it_is_loaded(mlc: Any, open_engine: Opener) -> None:
    with pytest.raises(OutOfMemory) as caught:
        open_engine(**{"weak.vram_budget": "100MiB"})
    assert caught.value.engine == "mlc" and not mlc.events("open")
    assert open_engine(**{"weak.vram_budget": "12GiB"}).capabilities.context_window == 128


def test_a_library_is_made_once_and_lies_in_our_store(mlc: Any, open_engine: Opener, paths: Paths) -> None:
    open_engine()
    open_engine()
    assert len(mlc.events("compile")) == 1
    libraries = {event["model_lib"] for event in mlc.events("open")}
    assert {Path(library).parents[1] for library in libraries} == {paths.artifacts / "mlc-library"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "0.19.0"}, "mlc_llm 0.20.0.dev0 -> 0.19.0"),
        ({"build": "two"}, "mlc_llm_build"),
    ],
    ids=["another version", "another build of the same version"],
)
def test_a_library_of_another_mlc_llm_is_made_anew_before_it_is_loaded(
    mlc: Any,
    open_engine: Opener,
    config: Config,
    paths: Paths,
    change: dict[str, str],
    reason: str,
) -> None:
    open_engine()
    mlc.install(**change)
    with pytest.raises(ArtifactMissing, match="no mlc-library of tiny-llama"):
        load(config.replace(**{"weak.build": False}), paths, SilentProgress())
    notes = Notes()
    load(config, paths, notes).close()
    assert len(mlc.events("compile")) == 2
    expected = f"the mlc-library of tiny-llama: making another, for this changed: {reason}"
    assert notes.notes == [expected]


def test_a_constructor_that_hangs_is_ended(
    mlc: Any, config: Config, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLC_STANDIN_OPEN", "hang")
    before = threading.active_count()
    with pytest.raises(EngineUnavailable, match="mlc cannot start: loading did not end within 300 s"):
        load(config, paths, SilentProgress(), clock=Clock(100))
    assert threading.active_count() == before


def of_another_build(model_lib: Path, folder: Path) -> None:
    held = model_lib.read_text(encoding="utf-8")
    model_lib.write_text(held.replace("0.20", "0.19"), encoding="utf-8")


def of_a_smaller_chunk(model_lib: Path, folder: Path) -> None:
    held = json.loads(model_lib.read_text(encoding="utf-8"))
    model_lib.write_text(json.dumps({**held, "prefill_chunk_size": 32}), encoding="utf-8")


def without_an_index(model_lib: Path, folder: Path) -> None:
    (folder / "tensor-cache.json").unlink()


def of_an_old_format(model_lib: Path, folder: Path) -> None:
    file = folder / "mlc-chat-config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text(encoding="utf-8")), "conv_template": "chatml"}),
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (of_another_build, r"RuntimeError: InternalError: .*cache_config.size\(\) == 5 \(6 vs. 5\)"),
        (of_a_smaller_chunk, r"RuntimeError: InternalError: .*prefill_chunk_size \(128 vs. 32\)"),
        (without_an_index, "RuntimeError: InternalError: Cannot open file: .*tensor-cache.json"),
        (of_an_old_format, "ValidationError: .*conv_template"),
    ],
)
def test_what_keeps_it_from_loading_is_told_at_once(
    mlc: Any, open_engine: Opener, damage: Callable[[Path, Path], None], reason: str
) -> None:
    """Most of it is raised in a thread of MLC's, and its constructor waits for ever."""
    open_engine()
    (opened,) = mlc.events("open")
    library, folder = Path(opened["model_lib"]), Path(opened["model"])
    damage(library, folder)
    before = threading.active_count()
    start = {name: opened[name] for name in ("model", "model_lib", "device", "mode", "engine_config")}
    with pytest.raises(EngineUnavailable, match=reason):
        Child("mlc", "edge_router.engines.mlc.child", start, timeout_s=300, refusal=refusal_of)
    assert threading.active_count() == before


def test_too_little_memory_is_told_as_that(
    config: Config, mlc: Any, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLC_STANDIN_OPEN", "memory")
    with pytest.raises(OutOfMemory, match="Insufficient GPU memory error"):
        load(config, paths, SilentProgress())


def test_without_the_package(config: Config, paths: Paths) -> None:
    with pytest.raises(EngineUnavailable, match="the package mlc_llm is not installed"):
        load(config, paths, SilentProgress())


def test_a_failed_compilation_tells_the_compilers_last_words(
    config: Config, mlc: Any, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLC_STANDIN_COMPILE", "fail")
    with pytest.raises(BuildFailed, match=r"failed at compile: .*No target detected from device: vulkan"):
        load(config, paths, SilentProgress())
    assert not mlc.events("open")


def test_a_library_counts_whatever_status_the_compiler_ends_with(
    mlc: Any, open_engine: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLC_STANDIN_COMPILE", "nonzero")
    assert text_of(ask(open_engine())) == SAID


def test_a_compiler_that_hangs_is_ended(
    config: Config, mlc: Any, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLC_STANDIN_COMPILE", "hang")
    monkeypatch.setattr("edge_router.compile.mlc.compile_mlc.__kwdefaults__", {"timeout_s": 1.0})
    with pytest.raises(BuildFailed, match="did not end within 1 s"):
        load(config, paths, SilentProgress())


def test_what_it_cannot_follow_and_how_long_it_takes_is_said(mlc: Any, config: Config, paths: Paths) -> None:
    """The latter once."""
    first, second = Notes(), Notes()
    load(config, paths, first).close()
    settings = {"weak.tools": "yes", "weak.min_confidence": 0.5}
    load(config.replace(**settings), paths, second).close()
    told = ["for the first time takes half a minute"]
    assert [all(word in note for word in told) for note in first.notes].count(True) == 1, first.notes
    words = ["weak.tools = yes has no effect", "weak.min_confidence has no say over other answers"]
    assert len(second.notes) == 2 and all(w in n for w, n in zip(words, second.notes, strict=True)), (
        second.notes
    )
    assert next(limits(config, SamplingDefaults(top_k=20))).endswith("own of 20 has no effect")


# ---- answers -------------------------------------------------------------------------------------------------


def test_an_answer_comes_in_pieces_with_its_usage_last(mlc: Any, open_engine: Opener) -> None:
    deltas = ask(open_engine())
    (asked,) = mlc.events("generate")
    usage = Usage(len(asked["prompt"]), 17)  # half a character is a token, and the end none, as in engine tvm
    said = map(TextDelta, ["V", "o", "i", "l", "à", ",", " the", " ", *"capital."])
    assert deltas == [*said, Finished("stop", usage)]


def test_a_request_goes_over_in_mlcs_types(mlc: Any, open_engine: Opener) -> None:
    engine = open_engine()
    sampling = SamplingParams(
        temperature=0.5,
        top_p=0.9,
        seed=-3,
        presence_penalty=1.0,
        frequency_penalty=-1.0,
        logit_bias={7: -100.0},
        repetition_penalty=1.2,
    )
    request = replace(HELLO, sampling=sampling, stop=("\n", "END"), max_tokens=3)
    deltas = list(answered(engine, request, threading.Event()))
    config = mlc.events("generate")[0]["config"]
    assert config == {
        "n": 1,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 2**31 - 3,
        "presence_penalty": 1.0,
        "frequency_penalty": -1.0,
        "repetition_penalty": 1.2,
        "logit_bias": {"7": -100.0},  # the log is JSON; the stand-in saw a number
        "logprobs": True,
        "top_logprobs": 0,
        "max_tokens": 3,
        "stop_strs": [],
        "stop_token_ids": [0, 1, 2],
    }
    assert (text_of(deltas), collect(deltas).finish_reason) == ("Voi", "length")


def test_what_a_request_leaves_open_is_as_the_models_config_says(
    mlc: Any, open_engine: Opener, config: Config, paths: Paths
) -> None:
    """All of it: MLC reads no repetition penalty there. The likeliest token is chosen without penalties."""
    engine = open_engine()
    engine._defaults = SamplingDefaults(0.25, 0.75, 20, 1.5, 0.5, -0.5)
    names = ("temperature", "top_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    for sampling, sent in (
        ({}, (0.25, 0.75, 1.5, 0.5, -0.5)),
        ({"temperature": 0}, (0.0, 0.75, 1.0, 0.0, 0.0)),
        ({"top_k": 1}, (0.0, 0.75, 1.5, 0.5, -0.5)),
        ({"top_k": 0, "min_p": 0.0, "temperature": 1.0}, (1.0, 0.75, 1.5, 0.5, -0.5)),
    ):
        ask(engine, **sampling)
        asked = mlc.events("generate")[-1]["config"]
        assert tuple(asked[name] for name in names) == sent, sampling


def test_what_mlc_cannot_do_is_refused(mlc: Any, open_engine: Opener) -> None:
    engine = open_engine()
    begun = (*HELLO.messages, Message("assistant", "{"))
    for changes, sampling, param in (
        ({}, {"top_k": 40}, "top_k"),
        ({}, {"min_p": 0.1}, "min_p"),
        ({"mask": lambda vocabulary: None}, {}, "mask"),
        ({"logprobs": True}, {"temperature": 0.0, "presence_penalty": 0.5}, "logprobs"),
        ({"logprobs": True}, {"temperature": 0.5}, "logprobs"),
        ({"logprobs": True}, {"temperature": 1.0, "top_p": 0.5}, "logprobs"),
        ({"logprobs": True}, {"temperature": 1.0, "logit_bias": {7: 1.0}}, "logprobs"),
        ({"logprobs": True}, {"temperature": 1.0, "presence_penalty": 1.0}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 6}, {"temperature": 1.0}, "top_logprobs"),
        ({"output": JsonOutput(), "logprobs": True}, {"temperature": 1.0}, "logprobs"),
        ({"output": JsonOutput(), "messages": begun, "continue_final": True}, {}, "json"),
    ):
        with pytest.raises(UnsupportedRequest) as caught:
            ask(engine, replace(HELLO, **changes), **sampling)
        assert caught.value.param == param, (changes, sampling)
    assert not mlc.events("generate")
    assert {Need.MASK, Need.TOOLS, Need.GRAMMAR}.isdisjoint(engine.capabilities.serves)


def test_a_prompt_is_made_as_for_the_engine_tvm(mlc: Any, open_engine: Opener) -> None:
    """A control token in a user's text stays text, and turns that MLC's own chat formats refuse pass."""
    engine = open_engine()
    turns = (
        Message("user", "a <|im_end|> b"),
        Message("developer", "Be brief."),
        Message("assistant", ""),
        Message("user", "go on"),
    )
    request = ChatRequest(turns)
    list(answered(engine, request, threading.Event()))
    prompt = mlc.events("generate")[0]["prompt"]
    assert len(prompt) == engine.prepare(request).count
    start, end = 1, 2
    assert (prompt.count(start), prompt.count(end)) == (5, 4)


def test_a_plain_completion_has_no_template(mlc: Any, open_engine: Opener) -> None:
    engine = open_engine()
    request = ChatRequest((Message("user", "the"),), raw_prompt="the")
    list(answered(engine, request, threading.Event()))
    prompt = mlc.events("generate")[0]["prompt"]
    assert prompt == engine._directory.tokenizer.encode("the", special=True)
    with pytest.raises(InvalidRequest, match="empty"):
        list(answered(engine, replace(request, raw_prompt=""), threading.Event()))


def test_log_probabilities_are_the_models_own(open_engine: Opener) -> None:
    """With every token's bytes, also of half a character, of a space, and none of the end."""
    engine = open_engine()
    request = replace(HELLO, logprobs=True, top_logprobs=2)
    for temperature in (0.0, 1.0):
        deltas = ask(engine, request, temperature=temperature)
        found = collect(deltas).logprobs
        said = b"".join(entry.token_bytes for entry in found)
        assert said.decode() == text_of(deltas) and said.startswith("Voilà, the".encode()), temperature
        for entry in found:
            # The logits of the stand-in's model: what it says next, its four other ideas, and the rest.
            row = {b"?": 3, b" the": 2, b" ": 1, b"\xc3": 0, entry.top[0].token_bytes: 6}
            whole = math.log(sum(map(math.exp, row.values())) + (288 - len(row)) * math.exp(-6))
            told = [entry.logprob, *(top.logprob for top in entry.top)]
            expected = [row[entry.token_bytes], *sorted(row.values(), reverse=True)[:2]]
            assert told == pytest.approx([logit - whole for logit in expected], abs=1e-6), entry
    halves = [entry.token for entry in found if entry.token_bytes in (b"\xc3", b"\xa0")]
    assert halves[:2] == ["\ufffd", "\ufffd"] and " " in [entry.token for entry in found]


def test_what_only_we_want_of_log_probabilities_is_left_out_where_it_would_be_wrong(
    mlc: Any, open_engine: Opener
) -> None:
    """So `weak.min_confidence` reads no certainty from a low temperature."""
    engine = open_engine()
    request = replace(HELLO, logprobs=True, signals=SignalRequest(4, alone=True))
    for temperature, told in ((1.0, range(10, 99)), (0.2, (0,)), (0.0, (4,))):
        reply = collect(ask(engine, request, temperature=temperature))
        assert len(reply.logprobs) in told, temperature
    assert reply.text == SAID and reply.usage is not None and reply.usage.completion_tokens == 17
    calls = [event["config"]["max_tokens"] for event in mlc.events("generate")]
    assert calls[2:6] == [1] * 4 and len(calls) == 7  # the likeliest, one by one, as long as they are wanted


def test_json_is_held_to_by_xgrammar(mlc: Any, open_engine: Opener) -> None:
    engine = open_engine()
    deltas = ask(engine, replace(HELLO, output=JsonOutput({"type": ["object", "null"]})))
    assert (text_of(deltas), deltas[-1].reason, deltas[-1].usage.completion_tokens) == ('{"a": 1}', "stop", 8)
    (asked,) = mlc.events("generate")
    schema = {"anyOf": [{"type": "object", "additionalProperties": True}, {"type": "null"}]}
    form = asked["config"]["response_format"]
    assert (form["type"], json.loads(form["json_schema"])) == ("json_object", schema)
    assert asked["config"]["debug_config"] == {"grammar_execution_mode": "constraint"}
    assert Need.JSON in engine.capabilities.serves


def test_a_prompt_that_does_not_fit_is_not_sent(mlc: Any, open_engine: Opener) -> None:
    engine = open_engine()
    with pytest.raises(ContextOverflow) as caught:
        list(answered(engine, ChatRequest((Message("user", "x" * 300),)), threading.Event()))
    assert caught.value.context_window_size == 128
    assert not mlc.events("generate")


def test_an_answer_ends_where_the_context_does(mlc: Any, open_engine: Opener) -> None:
    engine = open_engine()
    ask(engine)
    list(answered(engine, replace(HELLO, max_tokens=10**6), threading.Event()))
    limits = [event["config"]["max_tokens"] for event in mlc.events("generate")]
    tokens = engine.prepare(HELLO).count
    assert tokens is not None and limits == [128 - tokens, 128 - tokens]


@pytest.mark.parametrize("mode", ["local", "interactive", "server"])
def test_an_answer_may_fill_the_context_whatever_the_prompt_leaves(open_engine: Opener, mode: str) -> None:
    """A page of sixteen tokens has to be free, or MLC's engine never goes on."""
    engine = open_engine(**{"mlc.mode": mode, "weak.max_sequences": 2})
    for left in (60, 17, 16, 15, 9, 8, 1):
        prompt = ChatRequest((Message("user", "?"),), raw_prompt="x" * (128 - left))
        (*_, last) = ask(engine, prompt, seed=ENDLESS)
        assert last == Finished("length", Usage(128 - left, left)), left


def test_tokens_that_the_model_has_no_weights_for_stay_here(mlc: Any, open_engine: Opener) -> None:
    engine = open_engine()
    assert text_of(ask(engine, logit_bias={287: 0.0, 288: 5.0, -1: 5.0, 10**9: 5.0})) == SAID
    (asked,) = mlc.events("generate")
    assert asked["config"]["logit_bias"] == {"287": 0.0}


# ---- what goes wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "error", "text"),
    [
        (PREEMPTED, GenerationFailed, "'preempt'"),
    ],
)
def test_errors_become_ours_and_the_engine_goes_on(
    open_engine: Opener, seed: int, error: type[Exception], text: str
) -> None:
    engine = open_engine()
    with pytest.raises(error, match=text):
        ask(engine, seed=seed)
    assert text_of(ask(engine)) == SAID


@pytest.mark.parametrize(
    ("seed", "error", "text"),
    [
        (FAILS, GenerationFailed, "InternalError: a kernel failed"),
        (EXHAUSTED, OutOfMemory, "CUDA: out of memory"),
        (CRASHES, GenerationFailed, "its process has ended"),
    ],
)
def test_what_ends_mlcs_thread_is_told_to_all_who_wait_for_it(
    mlc: Any, open_engine: Opener, seed: int, error: type[Exception], text: str
) -> None:
    """Where the real one would have them wait for ever."""
    engine = open_engine(**{"weak.max_sequences": 2})
    other = answered(engine, replace(HELLO, sampling=SamplingParams(seed=STALLS)), threading.Event())
    assert next(other).text == "V"
    with pytest.raises(error, match=text):
        ask(engine, seed=seed)
    with pytest.raises(error, match=text):
        list(other)
    assert text_of(ask(engine)) == SAID  # by another process, which was started at once
    assert engine.restarts.count == 1 and len(mlc.events("open")) == 2


def test_an_answer_that_stalls_ends_with_its_process_and_the_next_one_is_given(
    mlc: Any, config: Config, paths: Paths
) -> None:
    clock = Clock()
    engine = load(config, paths, SilentProgress(), clock=clock)
    try:
        assert text_of(ask(engine)) == SAID
        clock.step = 5.0
        with pytest.raises(GenerationFailed, match=r"its process was ended: no token for \d+ s"):
            ask(engine, seed=STALLS)
        clock.step = 0.0
        assert text_of(ask(engine)) == SAID
        assert engine.restarts.count == 1 and "no token for" in str(engine.restarts.reason)
    finally:
        engine.close()


def test_cancelling_aborts_the_request(mlc: Any, open_engine: Opener) -> None:
    engine, cancel = open_engine(), threading.Event()
    request = replace(HELLO, sampling=SamplingParams(seed=STALLS))
    running = answered(engine, request, cancel)
    assert next(running).text == "V"
    cancel.set()
    with pytest.raises(Cancelled):
        list(running)
    left = answered(engine, request, threading.Event())
    assert next(left).text == "V"
    left.close()
    assert text_of(ask(engine)) == SAID  # so the ones before were taken note of
    created = [event["request_id"] for event in mlc.events("generate")]
    assert {event["request_id"] for event in mlc.events("abort")} == set(created[:2])


def test_many_at_once(open_engine: Opener) -> None:
    engine = open_engine(**{"weak.max_sequences": 4})
    said: list[str] = []
    threads = [threading.Thread(target=lambda: said.append(text_of(ask(engine)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [SAID] * 6


def test_closing_terminates_and_ends_what_runs(mlc: Any, open_engine: Opener) -> None:
    engine = open_engine()
    running = answered(engine, replace(HELLO, sampling=SamplingParams(seed=STALLS)), threading.Event())
    next(running)
    engine.close()
    engine.close()
    assert len(mlc.events("terminate")) == 1
    with pytest.raises(GenerationFailed):
        list(running)
    with pytest.raises(GenerationFailed, match="its process has ended"):
        ask(engine)


def test_a_process_that_does_not_end_is_ended(
    mlc: Any, open_engine: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where `terminate` misses a thread."""
    monkeypatch.setenv("MLC_STANDIN_TERMINATE", "forget")
    monkeypatch.setattr("edge_router.system.worker_process._CLOSE_S", 1.0)
    engine = open_engine()
    child = engine._child._child
    assert child is not None and child.running
    engine.close()
    assert not child.running


def test_a_process_that_failed_to_open_leaves_nothing(
    mlc: Any, config: Config, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threading.active_count()
    monkeypatch.setenv("MLC_STANDIN_OPEN", "memory")
    with pytest.raises(EngineUnavailable):
        load(config, paths, SilentProgress())
    assert threading.active_count() == before


def test_every_devices_words_for_too_little_memory_are_known() -> None:
    for kind, message in (
        ("RuntimeError", "CUDA_ERROR_OUT_OF_MEMORY"),
        ("RuntimeError", "hipErrorOutOfMemory"),
        ("RuntimeError", "kIOGPUCommandBufferCallbackErrorOutOfMemory"),
        ("RuntimeError", "vkAllocateMemory: VK_ERROR_OUT_OF_DEVICE_MEMORY"),
        ("RuntimeError", "CL_MEM_OBJECT_ALLOCATION_FAILURE"),
        ("OSError", "[Errno 12] Cannot allocate memory"),
        ("RuntimeError", "std::bad_alloc"),
        ("MemoryError", ""),
    ):
        assert isinstance(refusal_of({"kind": kind, "error": message}), OutOfMemory), message
