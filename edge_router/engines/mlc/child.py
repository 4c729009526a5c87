"""The process that holds MLC's engine: all that mlc_llm is asked. Run as a program."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

from edge_router.engines.process import Line, serve


def _open(start: Line) -> Any:
    from mlc_llm import AsyncMLCEngine
    from mlc_llm.serve import EngineConfig

    return AsyncMLCEngine(
        start["model"],
        start["device"],
        model_lib=start["model_lib"],
        mode=start["mode"],
        engine_config=EngineConfig(**start["engine_config"]),
    )


async def _answer(engine: Any, request_id: str, call: Line) -> AsyncGenerator[Line, None]:
    arguments = dict(call["arguments"])
    if "logit_bias" in arguments:  # JSON's names are strings
        arguments["logit_bias"] = {int(token): bias for token, bias in arguments["logit_bias"].items()}
    interface = engine.chat.completions if call["chat"] else engine.completions
    ended = False
    try:
        chunks = await interface.create(
            stream=True, stream_options={"include_usage": True}, request_id=request_id, **arguments
        )
        async for chunk in chunks:
            yield cast(Line, chunk.model_dump(mode="json"))
        ended = True
    finally:
        if not ended:
            await engine.abort(request_id)


def main() -> None:
    serve(_open, _answer, lambda engine: engine.terminate())


if __name__ == "__main__":
    main()
