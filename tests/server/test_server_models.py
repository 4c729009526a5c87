"""`edge-router serve` with the real router and the real weak model, and the official client."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

FRANCE: Any = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def address(built_home: Path) -> Iterator[str]:
    """What it says it listens on."""
    command = [sys.executable, "-m", "edge_router", "serve", "--port", "0", "--offline"]
    environment = {**os.environ, "EDGE_ROUTER_HOME": str(built_home)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            told: list[str] = []
            for line in process.stderr:
                told.append(line)
                if found := re.search(r"http://\S+/v1", line):
                    yield found[0]
                    break
            else:
                raise AssertionError("".join(told))
        finally:
            process.kill()


@pytest.fixture
def client(address: str, no_proxy: None) -> Iterator[openai.OpenAI]:
    with closing(openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=120)) as client:
        yield client


def test_a_session(client: openai.OpenAI) -> None:
    assert {"auto", "weak", "router-mf", "SmolLM2-135M-Instruct"} <= {
        model.id for model in client.models.list()
    }
    greedy: Any = {"model": "auto", "messages": FRANCE, "temperature": 0, "max_tokens": 24}
    raw = client.chat.completions.with_raw_response.create(**greedy)
    reply = raw.parse()
    text = reply.choices[0].message.content
    assert text is not None and "Paris" in text
    assert reply.usage is not None and reply.usage.completion_tokens <= 24
    assert raw.headers["x-edge-router-model"] == "weak"
    assert 0 <= float(raw.headers["x-edge-router-score"]) <= 1
    stream = client.chat.completions.create(**greedy, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == reply.usage.completion_tokens
    assert (
        client.chat.completions.create(**greedy, stop=["Paris"]).choices[0].message.content
        == text.partition("Paris")[0]
    )


def test_logprobs_and_text(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="weak", messages=FRANCE, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None and len(logprobs.content) == 3
    for token in logprobs.content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 2
        assert token.logprob == max(top.logprob for top in token.top_logprobs)  # greedy
    text = client.completions.create(
        model="weak", prompt="The capital of France is", max_tokens=8, temperature=0
    )
    assert "Paris" in text.choices[0].text


def test_a_prompt_longer_than_the_context(client: openai.OpenAI) -> None:
    long: Any = [{"role": "user", "content": "word " * 20_000}]
    with pytest.raises(openai.BadRequestError, match="more than the context") as caught:
        client.chat.completions.create(model="auto", messages=long)
    assert caught.value.code == "context_length_exceeded"


def test_leaving_makes_room_for_the_next(client: openai.OpenAI) -> None:
    story: Any = [{"role": "user", "content": "Write a very long story."}]
    with client.chat.completions.create(model="weak", messages=story, stream=True, max_tokens=2000) as stream:
        next(iter(stream))
    reply = client.chat.completions.create(model="weak", messages=FRANCE, max_tokens=2)
    assert reply.choices[0].finish_reason == "length"
