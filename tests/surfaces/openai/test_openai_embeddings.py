"""OpenAI's /v1/embeddings without a server."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge_router.chat.model import ModelInfo
from edge_router.errors import InvalidRequest, UnknownModel
from edge_router.surfaces.openai.queries import QUERIES

HostOf = Callable[..., Any]
answer = next(query.answer for query in QUERIES if query.path == "/v1/embeddings")
MODELS = (ModelInfo("mf", dimension=3), ModelInfo("weak"))


def test_a_vector_for_each_text_as_numbers_or_in_base64(host_of: HostOf) -> None:
    host = host_of(*MODELS)
    for given, vectors in (("a", [[1, 0, 0.5]]), (["a", "bc", ""], [[1, 0, 0.5], [2, 0, 0.5], [0, 0, 0.5]])):
        body = answer({"model": "mf", "input": given, "user": "me"}, host)
        tokens = len("".join(given))
        assert body == {
            "object": "list",
            "model": "mf",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }, given
        packed = answer({"model": "mf", "input": given, "encoding_format": "base64", "dimensions": 3}, host)
        assert [
            np.frombuffer(base64.b64decode(each["embedding"]), "<f4").tolist()
            for each in packed["data"]  # type: ignore[attr-defined]
        ] == vectors, given


def test_bad_bodies_name_the_field(host_of: HostOf) -> None:
    host = host_of(*MODELS)
    for fields, param, reason in (
        ({"model": None}, "model", "a model that makes vectors"),
        ({"input": None}, "input", "must be a text or a list"),
        ({"input": []}, "input", "at least one"),
        ({"input": [1, 2, 3]}, "input", "check_embedding_ctx_length=False"),
        ({"input": [[1], [2]]}, "input", "token ids"),
        ({"input": ["a", None]}, "input[1]", "must be a text"),
        ({"input": ["a"] * 2049}, "input", "at most 2048"),
        ({"input": "\ud800"}, "input", "half a surrogate pair"),
        ({"encoding_format": "int8"}, "encoding_format", "must be float or base64"),
        ({"dimensions": 0}, "dimensions", "between 1 and"),
        ({"dimensions": 2}, "dimensions", "must be 3: the vectors of mf mean nothing when they are cut"),
    ):
        with pytest.raises(InvalidRequest, match=reason) as caught:
            answer({"model": "mf", "input": "a", **fields}, host)
        assert caught.value.param == param, fields
    with pytest.raises(UnknownModel):
        answer({"model": "weak", "input": "a"}, host)


def test_where_it_is_asked() -> None:
    assert ("POST", "/v1/embeddings") in [(query.method, query.path) for query in QUERIES]
