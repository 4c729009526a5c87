"""A program: what mlc_llm does, asked of whichever the Python that runs it has, as one line of JSON.

`python observed.py FOLDER LIBRARY`, with a model directory and its library, compiled for 128 tokens on a processor.
Nothing of ours is imported. Where it is to be seen that something waits for ever, it is waited for until the
thread that should have answered is dead, or has had seconds for what takes it milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from mlc_llm import AsyncMLCEngine
from mlc_llm.protocol.generation_config import GenerationConfig
from mlc_llm.serve import EngineConfig

CONTEXT, END, THE = 128, 2, 261  # of tests/compile/tiny_llama.py: " the" is a token
ROOM = CONTEXT + 16
SILENT_S = 5.0
LETTER = 67
NO_END = dict.fromkeys((0, 1, 2), -100.0)


class Deaths:
    """Of threads, by what they raised."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.one = threading.Event()
        threading.excepthook = self._died

    def _died(self, died: threading.ExceptHookArgs) -> None:
        self.told.append(str(died.exc_value))
        self.one.set()

    def next(self) -> str:
        if not self.one.wait(120):
            return "no thread died"
        self.one.clear()
        return self.told[-1]


def opened(folder: str, library: str, **given: Any) -> Any:
    config = {
        "max_num_sequence": 1,
        "max_single_sequence_length": CONTEXT,
        "max_total_sequence_length": ROOM,
        "prefill_chunk_size": CONTEXT,
        **given,
    }
    return AsyncMLCEngine(
        folder, "cpu", model_lib=library, mode="interactive", engine_config=EngineConfig(**config)
    )


def waits(make: Callable[[], Any], deaths: Deaths) -> list[object]:
    """Whether it does so although what it waits for has died, and of what."""
    ended = threading.Event()

    def run() -> None:
        make()
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    died = deaths.next()
    return [not ended.wait(1.0), died]


async def completed(engine: Any, name: str, **asked: Any) -> dict[str, Any]:
    chunks = await engine.completions.create(
        stream=True, stream_options={"include_usage": True}, request_id=name, model="m", **asked
    )
    found: dict[str, Any] = {"text": "", "finish": None, "tokens": [], "logprobs": []}
    async for chunk in chunks:
        line = chunk.model_dump(mode="json")
        if line.get("usage"):
            found["usage"] = [line["usage"]["prompt_tokens"], line["usage"]["completion_tokens"]]
        for choice in line["choices"]:
            found["text"] += choice["text"]
            found["finish"] = choice["finish_reason"] or found["finish"]
            told = choice["logprobs"] or {"tokens": [], "token_logprobs": []}
            found["tokens"] += told["tokens"]
            found["logprobs"] += told["token_logprobs"]
    return found


async def generated(engine: Any, name: str, prompt: list[int], **config: Any) -> list[dict[str, Any]]:
    """The log probabilities of each token."""
    config = {"temperature": 1.0, "top_p": 1.0, "logprobs": True, "top_logprobs": 2, **config}
    found: list[dict[str, Any]] = []
    async for outputs in engine._generate(prompt, GenerationConfig(**config), name):
        found += [json.loads(text) for text in outputs[0].delta_logprob_json_strs or ()]
    return found


async def until_silent(stream: Any) -> int:
    """Outputs until none came for seconds."""
    count = 0
    while True:
        try:
            await asyncio.wait_for(anext(stream), SILENT_S)
        except (TimeoutError, StopAsyncIteration):
            return count
        count += 1


async def answers(engine: Any) -> dict[str, object]:
    only = {"temperature": 0.0, "max_tokens": 1}
    full = await completed(engine, "full", prompt=[LETTER] * CONTEXT, max_tokens=4)
    the = await completed(engine, "the", prompt=[LETTER], logprobs=2, logit_bias={THE: 100.0}, **only)
    end = await completed(engine, "end", prompt=[LETTER], logprobs=0, logit_bias={END: 100.0}, **only)
    cold = await completed(engine, "cold", prompt=[LETTER], logprobs=0, **only)
    (warm,) = await generated(engine, "warm", [LETTER], max_tokens=1)
    (whole,) = await generated(engine, "whole", [LETTER], max_tokens=1, logit_bias={THE: 100.0})
    try:
        over = str(await completed(engine, "over", prompt=[LETTER] * (CONTEXT + 1)))
    except ValueError as error:
        over = f"{type(error).__name__}: {error}"
    stream = engine._generate([LETTER], GenerationConfig(logit_bias=NO_END), "aborted")
    await anext(stream)
    await engine.abort("aborted")
    left = await until_silent(stream)
    return {
        "a prompt as long as the context": [full["text"], full["finish"], full["usage"]],
        "a longer one": over,
        "completions name a token": the["tokens"],
        "_generate has its bytes": whole["bytes"],
        "the end token has a log probability and counts": [end["tokens"], end["finish"], end["usage"]],
        "at temperature 0 log probabilities are 0": cold["logprobs"],
        "at temperature 1 they are below": warm["logprob"] < 0,
        "an aborted answer has no end": left < CONTEXT // 2,
    }


async def starved(engine: Any) -> int:
    stream = engine._generate([LETTER] * 100, GenerationConfig(logit_bias=NO_END, temperature=0.0), "starved")
    return await until_silent(stream)


async def overasked(engine: Any, deaths: Deaths) -> list[object]:
    """More likeliest tokens than the sampler for processors knows."""
    config = GenerationConfig(logprobs=True, top_logprobs=6)
    stream = engine._generate([LETTER], config, "overasked")
    waiting = asyncio.ensure_future(anext(stream))
    died = await asyncio.to_thread(deaths.next)
    done, _ = await asyncio.wait([waiting], timeout=1.0)
    return [not done, died]


def loads(folder: str, library: str, deaths: Deaths) -> dict[str, object]:
    found: dict[str, object] = {"fields of EngineConfig": len(fields(EngineConfig))}
    bare, named, tarred = (Path(folder).parent / name for name in ("bare", "named", "library.tar"))
    for place in (bare, named):
        shutil.copytree(folder, place)
    (bare / "tensor-cache.json").unlink()
    shutil.copy(library, tarred)
    file = named / "mlc-chat-config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "conv_template": "chatml"}), encoding="utf-8")
    try:
        opened(str(named), library)
    except ValueError as error:
        found["a conv_template that is a name"] = type(error).__name__
    for name, make in {
        "no tensor-cache.json": lambda: opened(str(bare), library),
        "a library of an unknown kind": lambda: opened(folder, str(tarred)),
        "a chunk above the compiled one": lambda: opened(folder, library, prefill_chunk_size=4 * CONTEXT),
    }.items():
        found[name] = waits(make, deaths)
    return found


async def asked(folder: str, library: str, deaths: Deaths) -> dict[str, object]:
    longer = opened(folder, library, max_single_sequence_length=4096, max_total_sequence_length=8192)
    found: dict[str, object] = {"a context above the compiled one": longer.max_input_sequence_length}
    longer.terminate()
    exact = opened(folder, library, max_total_sequence_length=CONTEXT)
    found["tokens behind 100 without a page more"] = await starved(exact)
    engine = opened(folder, library)
    found |= await answers(engine)
    return {**found, "six likeliest tokens": await overasked(engine, deaths)}


def main() -> None:
    folder, library = sys.argv[1:]
    deaths = Deaths()
    found = asyncio.run(asked(folder, library, deaths))
    found |= loads(folder, library, deaths)
    print(json.dumps(found), flush=True)  # noqa: T201 - what it is for
    os._exit(0)  # there are threads that wait for ever


if __name__ == "__main__":
    main()
