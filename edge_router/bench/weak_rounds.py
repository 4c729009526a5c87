"""The rounds of `bench weak`: each side in its own process, in turns.

The two never compute at the same time: idle threads of one would take the cores from the other. Rounds
alternate (A B A B ...), so that a machine that gets warm or busy meets both; a ratio is formed within one.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import IO, TYPE_CHECKING

from edge_router.bench.weak_results import Comparison, Lengths, MedianRange, Speed
from edge_router.bench.weak_sides import on_cuda
from edge_router.errors import GenerationFailed
from edge_router.system import child_process
from edge_router.types import Progress

if TYPE_CHECKING:
    from edge_router.prompts.tokenizer import TextTokenizer

OURS = "edge_router"
DECODE_PROMPT = 32  # tokens
_END_S = 10.0


class Prompts:
    """Pieces of a real text, each of a given number of tokens and no two with the same beginning."""

    def __init__(self, tokenizer: TextTokenizer, text: str) -> None:
        self._tokenizer, self._text = tokenizer, text
        self._starts = iter(range(0, len(text), 97))

    @classmethod
    def of(cls, tokenizer: Path) -> Prompts:
        from edge_router.prompts.tokenizer import TextTokenizer

        text = (files("edge_router.compile.weights") / "texts" / "calibration.txt").read_text(
            encoding="utf-8"
        )
        return cls(TextTokenizer(tokenizer), text)

    def next(self, tokens: int) -> str:
        """A text that is `tokens` tokens long."""
        for start in self._starts:
            end = start
            while end < len(self._text):
                found = len(self._tokenizer.encode(self._text[start:end]))
                if found == tokens:
                    return self._text[start:end]
                if found > tokens:
                    break
                end += max(1, tokens - found)  # a token is at least a character, in a text like this one
        raise ValueError(f"the text has no more pieces of {tokens} tokens")

    def ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)


class Taken:
    """What one side was measured at, round by round."""

    def __init__(self, lengths: Lengths) -> None:
        self.prefill: dict[int, list[float]] = {length: [] for length in lengths.prefill}  # tokens per second
        self.decode: list[float] = []
        self.ttft_ms: list[float] = []
        self.python_ms: list[float] = []
        self.peak_bytes = 0

    def speed(self) -> Speed:
        prefill = {length: MedianRange.of(values) for length, values in self.prefill.items()}
        return Speed(prefill, MedianRange.of(self.decode))


def compared(ours: Taken, theirs: Taken) -> Comparison:
    def ratio(one: Sequence[float], other: Sequence[float]) -> MedianRange:
        return MedianRange.of([mine / its for mine, its in zip(one, other, strict=True)])

    return Comparison(
        theirs.speed(),
        {length: ratio(values, theirs.prefill[length]) for length, values in ours.prefill.items()},
        ratio(ours.decode, theirs.decode),
    )


def take(
    sides: Mapping[str, Mapping[str, object]],
    prompts: Prompts,
    rounds: int,
    lengths: Lengths,
    progress: Progress,
) -> dict[str, Taken]:
    taken = {name: Taken(lengths) for name in sides}
    with ExitStack() as stack, progress.step("measure", rounds + 1, "rounds") as step:
        running = {name: stack.enter_context(side_process(name, options)) for name, options in sides.items()}
        for number in range(rounds + 1):
            for length in lengths.prefill:
                text = prompts.next(length)
                for name, side in running.items():
                    seconds = side.ask("prefill", text=text, ids=prompts.ids(text))
                    taken[name].prefill[length].append(length / seconds)
            text = prompts.next(DECODE_PROMPT)
            for name, side in running.items():
                seconds = side.ask("decode", text=text, ids=prompts.ids(text), count=lengths.decode)
                taken[name].decode.append(lengths.decode / seconds)
            seconds = running[OURS].ask("ttft", text=f"{number}: {prompts.next(DECODE_PROMPT)}")
            taken[OURS].ttft_ms.append(1000 * seconds)
            if sides[OURS]["engine"] == "tvm" and not on_cuda(sides[OURS]):
                text = prompts.next(DECODE_PROMPT)
                seconds = running[OURS].ask("python", text=text, count=lengths.decode)
                taken[OURS].python_ms.append(1000 * seconds)
            if number == 0:  # to warm up: first touches of memory, threads that start
                taken = {name: Taken(lengths) for name in sides}
            step.advance()
        taken[OURS].peak_bytes = int(running[OURS].ask("peak"))
    return taken


class SideProcess:
    """A process that measures on demand; see weak_sides.py."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._name, self._process, self._errors = name, process, errors

    def ask(self, what: str, **details: object) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"what": what, **details}).encode() + b"\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())
        except (OSError, ValueError) as error:  # it has ended
            self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            raise GenerationFailed(self._name, *last or ["its process ended"]) from error


@contextmanager
def side_process(
    name: str, options: Mapping[str, object], module: str = "edge_router.bench.weak_sides"
) -> Iterator[SideProcess]:
    """`module` is run with the name and the options, and ended at the end."""
    code = ["-m", module, name, json.dumps(options)]
    with tempfile.TemporaryFile() as errors, child_process.start(code, stderr=errors) as process:
        try:
            yield SideProcess(name, process, errors)
        finally:
            child_process.end(process, _END_S)
