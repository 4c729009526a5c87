"""The process that holds MLC's engine: all that mlc_llm is asked. Run as a program."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from edge_router.parsing import strict_json
from edge_router.system.worker_process import Line, serve


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
    """The tokens as they come, each with its bytes, and why they end.

    Not through MLC's interfaces for chats and completions: these leave tokens out, name them without what is
    not ASCII, and take neither a repetition penalty nor the tokens that end an answer.
    """
    from mlc_llm.protocol.generation_config import GenerationConfig

    ended = False
    try:
        outputs = engine._generate(call["prompt"], GenerationConfig(**call["config"]), request_id)
        async with aclosing(outputs):
            async for (output,) in outputs:
                tokens = [strict_json.parse(told, null=True) for told in output.delta_logprob_json_strs or ()]
                if tokens or output.finish_reason is not None:
                    yield {"tokens": tokens, "finish": output.finish_reason}
        ended = True
    finally:
        if not ended:
            await engine.abort(request_id)


def main() -> None:
    serve(_open, _answer, lambda engine: engine.terminate())


if __name__ == "__main__":
    main()
