"""An engine whose answers come by themselves, as a remote model's do; scripted, and without a network."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Any

from edge_router import ScriptedEngine
from edge_router.chat.events import Event
from edge_router.engines.base import Arriving, Prompt
from edge_router.engines.remote.background import BackgroundLoop
from edge_router.types import Cancel


class ArrivingEngine(ScriptedEngine):
    """A `ScriptedEngine` that is read from a loop of its own. `under_way`: answers that have not ended."""

    def __init__(self, *replies: Any, **named: Any) -> None:
        super().__init__(*replies, **named)
        self._loop = BackgroundLoop("arriving")
        self.under_way = 0

    def stream(self, prompt: Prompt, cancel: Cancel) -> Arriving[Event]:
        return self._loop.iterate(lambda: self._source(prompt), cancel)

    async def _source(self, prompt: Prompt) -> AsyncGenerator[Event]:
        left = threading.Event()
        events = ScriptedEngine.stream(self, prompt, left)
        self.under_way += 1
        try:
            while (event := await asyncio.to_thread(next, events, None)) is not None:
                yield event
        finally:
            left.set()
            self.under_way -= 1

    def close(self) -> None:
        super().close()
        self._loop.close()
