"""What a device must do to run the weak model: the seam between scheduling (shared) and TVM, WebGPU, ...

A runner holds one loaded model and its paged KV cache. It is made, used and closed by one thread, the
scheduler's. Sequences are small integers chosen by the caller. Logits come back as float32 numpy arrays on
the host, one row of `vocab_size` for each sequence; the next `prefill` or `decode` may overwrite them, and
nobody else may.

Any call may raise anything. After that the sequences named in the call are in an unknown state, and the
caller either removes them or calls `reset`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edge_router.errors import EngineError, InternalError, OutOfMemory
from edge_router.records import dataclass

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TopK:
    """The likeliest tokens, the likeliest first, of equals that with the lower number; and their logits.

    `total`: the sum over all tokens of exp((logit - the highest) / temperature).
    """

    tokens: npt.NDArray[np.int64]
    logits: Logits
    total: float


def is_exhausted(error: BaseException | None) -> bool:
    """Whether a library's error says that there was no memory left. TVM passes on C++'s or CUDA's word."""
    text = str(error).lower().replace("_", " ")
    return isinstance(error, MemoryError) or "bad alloc" in text or "out of memory" in text


def unmeant(engine: str, error: BaseException, exhausted: str) -> EngineError:
    """What nobody raised on purpose, as ours: `OutOfMemory` (`exhausted`: of what), else a mistake of ours.

    A runner raises an `EngineError` for what may really happen to its device; see `engines.base`.
    """
    if is_exhausted(error):
        failure = OutOfMemory(engine, f"{exhausted} ({type(error).__name__}: {error})")
        failure.__cause__ = error
        return failure
    return InternalError.of(f"engine {engine}", error)


class ModelRunner(Protocol):
    @property
    def vocab_size(self) -> int: ...

    @property
    def context_window_size(self) -> int:
        """Tokens that one sequence may hold. The KV cache as a whole holds at least as many."""
        ...

    @property
    def prefill_chunk_size(self) -> int:
        """Tokens of one `prefill` call at most."""
        ...

    @property
    def max_sequences(self) -> int:
        """Sequences of one `decode` call at most; more than these may exist."""
        ...

    @property
    def free_tokens(self) -> int:
        """Tokens for which the KV cache still has whole pages."""
        ...

    @property
    def page_size(self) -> int:
        """Tokens of one page. A sequence, or a fork that begins inside a page, takes whole ones."""
        ...

    def add_sequence(self, sequence: int) -> None: ...

    def fork_sequence(self, parent: int, child: int, position: int) -> None:
        """`child` shares the first `position` tokens of `parent`, 1 <= position <= its length."""
        ...

    def holds(self, sequence: int, position: int) -> bool:
        """Whether a fork at `position` finds what its next token looks back at: windows forget."""
        ...

    def new_pages(self, sequence: int, length: int, count: int) -> int:
        """Pages that are taken while `sequence`, of `length` tokens, grows by `count`, chunk by chunk."""
        ...

    def pop_tokens(self, sequence: int, count: int) -> None:
        """Forget the last `count` tokens."""
        ...

    def remove_sequence(self, sequence: int) -> None: ...

    def prefill(self, sequence: int, tokens: Sequence[int]) -> Logits:
        """Append at most one chunk; logits of the last token, shape (vocab_size,)."""
        ...

    def decode(self, sequences: Sequence[int], tokens: Sequence[int]) -> Logits:
        """Append one token to each; shape (len(sequences), vocab_size)."""
        ...

    def reset(self) -> None:
        """Forget every sequence, whatever state an error has left."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class ChoosingRunner(ModelRunner, Protocol):
    """One that looks for the likeliest tokens itself, and so needs not hand all logits over."""

    @property
    def candidates(self) -> int:
        """Tokens that it finds of each row."""
        ...

    def decode_likeliest(
        self, sequences: Sequence[int], tokens: Sequence[int], temperatures: Sequence[float | None]
    ) -> Sequence[TopK]:
        """As `decode`. Where all temperatures are None only the one likeliest token of each."""
        ...

    def last_logits(self) -> Logits:
        """Of the last `decode_likeliest` with a temperature, as `decode` would have given them."""
        ...


@runtime_checkable
class OverlappingRunner(ModelRunner, Protocol):
    """One that may compute while its caller does something else, as a GPU does."""

    @property
    def overlaps(self) -> bool:
        """Whether it does; on a processor the two would only take turns."""
        ...

    def decode_while(
        self, sequences: Sequence[int], tokens: Sequence[int], meanwhile: Callable[[], None]
    ) -> Logits:
        """As `decode`; `meanwhile` is called when all work has been started. It raises nothing."""
        ...


@runtime_checkable
class BatchingRunner(ModelRunner, Protocol):
    """One that reads several prompts in one call, where that is quicker."""

    @property
    def together(self) -> int:
        """Sequences of one call at most; 1 where it is not."""
        ...

    def prefill_many(self, sequences: Sequence[int], tokens: Sequence[Sequence[int]]) -> Logits:
        """Append to each its tokens, at most one chunk in all; shape (len(sequences), vocab_size)."""
        ...


@runtime_checkable
class StatefulRunner(ModelRunner, Protocol):
    """One whose sequences may keep states, which are not there behind every token."""

    def reach(self, sequence: int, position: int) -> int:
        """The last place up to `position` that it `holds`; 0 for none."""
        ...

    @property
    def most_kept(self) -> int | None:
        """Sequences that may be there beside those that go on; None: as many as there are pages for."""
        ...


@runtime_checkable
class VerifyingRunner(ModelRunner, Protocol):
    """One that computes several next tokens of a sequence at once, each just as `decode` would have.

    It is no `OverlappingRunner` that overlaps.
    """

    @property
    def ahead(self) -> int:
        """Tokens of one call at most, of all sequences together; 1 where it does not."""
        ...

    def verify(self, sequences: Sequence[int], tokens: Sequence[Sequence[int]]) -> Logits:
        """Append to each its tokens, at least one; logits behind every token, shape (tokens, vocab_size)."""
        ...


class SavesPages(Protocol):
    """What writes what a sequence holds to a file, and takes it back, to the bit."""

    @property
    def saved_form(self) -> Mapping[str, object]:
        """All but model and library that has to be the same where it is taken back, as JSON."""
        ...

    def saved_bytes(self, length: int) -> int:
        """What `length` tokens take, which fill whole pages, as with the three that follow."""
        ...

    def has_all(self, sequence: int, length: int) -> bool:
        """Whether all of the first `length` tokens are there: windows forget."""
        ...

    def save(self, sequence: int, length: int, write: Callable[[memoryview], None]) -> None:
        """All of the first `length` tokens."""
        ...

    def restore(self, sequence: int, length: int, read: Callable[[memoryview], None]) -> None:
        """Append what was saved of `length` tokens to a sequence that holds none; `read` fills what it gets.
        What either raises leaves the sequence to be removed."""
        ...


@runtime_checkable
class SavingRunner(ModelRunner, Protocol):
    """One whose KV cache can perhaps be written to a file."""

    @property
    def saving(self) -> SavesPages | None:
        """None where that can't be done on this device."""
        ...
