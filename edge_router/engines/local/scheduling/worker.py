"""The loop that serves every answer under way, token by token.

Each turn computes at most one chunk of one prompt and one token of every answer that is past its prompt, so
a long prompt delays the others by one chunk and not by its whole length. Waiting requests come in the order
of their arrival. When the KV cache is full, kept conversations go first; after that the answer that came
last gives up its pages and is computed again later, which its reader sees as a pause.

What an answer repeats of what was said may be guessed, and several of its tokens computed in one turn; see
`speculation`.

A GPU computes the next tokens while the text of the last ones is made. An answer that turns out to have ended
with its last token, by a stop string say, has then computed one more, which nobody sees.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from edge_router.engines.local.choosing import chosen, needs_all
from edge_router.engines.local.runner import (
    ChoosingRunner,
    Logits,
    ModelRunner,
    OverlappingRunner,
    TopK,
    VerifyingRunner,
    unmeant,
)
from edge_router.engines.local.sampler import NothingToChooseError, SampledToken
from edge_router.engines.local.scheduling.jobs import (
    GenerationTask,
    Load,
    Order,
    Survey,
    Task,
    Unload,
    UnloadPolicy,
)
from edge_router.engines.local.scheduling.prefixes import StoredPrefixes
from edge_router.engines.local.scheduling.sequences import CachedSequence, SequencePool
from edge_router.engines.local.scheduling.speculation import Speculation
from edge_router.errors import Cancelled, EngineError, GenerationFailed

_SHARED_CHUNK = 128  # tokens of a prompt at once while others wait for their next token
_KEPT = 16  # conversations; memory limits them long before, this limits the search through them


T = TypeVar("T", bound=Task)


class _RunnerFailedError(Exception):
    """A call of the runner failed while it was made for `jobs`."""

    def __init__(self, jobs: Sequence[Task]) -> None:
        self.jobs = tuple(jobs)
        super().__init__()


class Worker:
    """The thread's side: one thread runs everything below, so nothing needs a lock."""

    def __init__(
        self,
        engine: str,
        runner: ModelRunner,
        inbox: queue.SimpleQueue[Order],
        rest: UnloadPolicy,
        waiting: Sequence[Task] = (),
    ) -> None:
        self._engine, self._runner, self._inbox, self._rest = engine, runner, inbox, rest
        self._chooser = runner if isinstance(runner, ChoosingRunner) else None
        self._overlapping = runner if isinstance(runner, OverlappingRunner) and runner.overlaps else None
        self._verifier = runner if isinstance(runner, VerifyingRunner) else None
        self._speculation = Speculation(self._verifier.ahead if self._verifier else 1)
        self._untold: list[tuple[GenerationTask, SampledToken]] = []  # chosen, and not yet pushed
        self._complete: list[Task] = []  # that have yet to leave
        self._pool = SequencePool(runner, _KEPT)
        self._prefixes = StoredPrefixes(runner, self._pool, engine)
        self._waiting: deque[Task] = deque(waiting)
        self._running: list[Task] = []  # in the order of their admission
        self._turn = 0  # whose prompt goes on next
        self._crowded = False  # no pages for one more until somebody leaves
        self._damaged = False  # an error left the KV cache in an unknown state
        self._unload = False  # as soon as there is nothing to do
        self._looked = time.monotonic()  # when `pressed` was asked

    def run(self) -> Sequence[Task] | None:
        """Until it is time to stop (None), or to give the memory back: then who waits for it to come back."""
        while (goes_on := self._receive()) is not None:
            if not goes_on:
                self._tell()
                self._start_anew(self._complete)
                return tuple(self._waiting)
            try:
                if self._waiting or any(job.unread for job in self._running):
                    self._settle()  # a prompt may take long, and nobody waits for another's
                self._drop_cancelled()
                self._admit()
                self._prefill()
                self._drop_cancelled()
                self._survey()
                self._decode()
            except _RunnerFailedError as failure:
                self._recover(failure)
        return None

    def end(self, error: EngineError) -> bool:
        """Nobody gets anything more; whether it was asked to stop meanwhile."""
        self._tell()
        come: list[Order] = []
        while not self._inbox.empty():
            come.append(self._inbox.get())
        for job in (*self._running, *self._waiting, *come):
            if isinstance(job, Task):
                job.sink.fail(error)
            elif isinstance(job, Load):
                job.told.put(error)
        return None in come

    def _receive(self) -> bool | None:
        """Take what has come; wait only when there is nothing to do. None: stop; False: give memory back."""
        idle = not self._running and not self._waiting
        while idle or not self._inbox.empty():
            if idle and self._inbox.empty():
                self._prefixes.write()
                if self._unload and self._inbox.empty():
                    return False
            try:
                job = self._inbox.get(timeout=self._rest.idle_s)
            except queue.Empty:
                return False
            if job is None:
                if idle:  # a program that ends with its answer
                    self._prefixes.write()
                return None
            if isinstance(job, Unload):
                self._unload = True
                continue
            if isinstance(job, Load):
                self._unload = False
                job.told.put(None)
                continue
            self._waiting.append(job)
            if idle and self._pressed():
                return False
            idle = False
        return time.monotonic() < self._looked + self._rest.look_s or not self._pressed()

    def _pressed(self) -> bool:
        self._looked = time.monotonic()
        return self._rest.pressed()

    def _drop_cancelled(self) -> None:
        for job in [job for job in (*self._running, *self._waiting) if job.cancelled()]:
            self._leave(job, Cancelled())

    # ---- steps ---------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        while self._waiting and not self._crowded and len(self._running) < self._runner.max_sequences:
            job = self._waiting[0]
            with self._blaming([job]):
                if self._damaged:
                    self._pool.reset()
                    self._damaged = False
                held = self._begin(job)
                enough = self._pool.make_room([(held, len(job.tokens) - len(held.tokens))])
                if not enough and self._running:
                    self._pool.drop(held)
                    self._crowded = True
                    return
            self._waiting.popleft()
            self._running.append(job)
            job.held = held
            if job.cached_tokens is None:  # else it has given up its pages and starts again
                job.cached_tokens = len(held.tokens)
                job.began = time.perf_counter()

    def _begin(self, job: Task) -> CachedSequence:
        if isinstance(job, GenerationTask):
            return self._prefixes.begin(job)
        assert isinstance(job, Survey)
        step = min(self._runner.prefill_chunk_size, _SHARED_CHUNK)
        return self._pool.resume(job.tokens, job.joints(step))

    def _prefill(self) -> None:
        """One chunk of one prompt, in turns."""
        unread = [job for job in self._running if job.unread]
        if not unread:
            return
        self._turn += 1
        turn = unread[self._turn % len(unread)]
        shared = len(unread) < len(self._running)
        chunk = min(turn.pending, self._runner.prefill_chunk_size, _SHARED_CHUNK if shared else turn.pending)
        if turn.held is not None:
            chunk = min(chunk, turn.next_joint - len(turn.held.tokens))
        for job, held in self._with_room([turn], chunk):
            tokens = job.tokens[len(held.tokens) : len(held.tokens) + chunk]
            with self._blaming([job]):
                logits = self._runner.prefill(held.sequence, tokens)
                held.tokens += tokens
                if isinstance(job, Survey) and len(held.tokens) == job.head and job.pending:
                    job.held = self._pool.part(held)
            if isinstance(job, GenerationTask) and job.pending == 0:
                self._choose(job, logits)
                self._settle()

    def _survey(self) -> None:
        """Some branches of one survey, in turns."""
        ready = [job for job in self._running if isinstance(job, Survey) and not job.unread]
        if not ready:
            return
        self._turn += 1
        turn, most = ready[self._turn % len(ready)], self._runner.prefill_chunk_size
        if len(ready) < len(self._running):
            most = min(most, _SHARED_CHUNK)
        with self._blaming([turn]):
            pages = turn.branches.least(self._runner.page_size)
            while not self._pool.spare(pages) and len(self._running) > 1:
                self._give_up()
            if turn.held is None:
                return
            turn.branches.step(self._runner, self._pool, turn.held, most)
        if turn.branches.complete:
            turn.branches.listener.over(turn.cached_tokens or 0)
            self._leave(turn)

    def _decode(self) -> None:
        """One token of every answer, or some where the next ones can be guessed."""
        going = [job for job in self._running if isinstance(job, GenerationTask) and job.pending == 1]
        batch = self._with_room(going, 1)
        if not batch:
            return
        jobs, tokens = [job for job, _ in batch], [job.tokens[-1] for job, _ in batch]
        if guesses := self._guesses(batch):
            self._verify(batch, [[token, *more] for token, more in zip(tokens, guesses, strict=True)])
            return
        sequences, chooser = [held.sequence for _, held in batch], self._chooser
        rows: Sequence[Logits | TopK]
        with self._blaming(jobs), self._speculation.timed(len(tokens)):
            if self._overlapping is not None:
                rows = list(self._overlapping.decode_while(sequences, tokens, self._tell))
            elif chooser is None or needs_all([job.sampler for job in jobs], chooser):
                rows = list(self._runner.decode(sequences, tokens))
            else:
                temperatures = [job.sampler.temperature for job in jobs]
                rows = chooser.decode_likeliest(sequences, tokens, temperatures)
        for (_, held), token in zip(batch, tokens, strict=True):
            held.tokens.append(token)
        self._part()
        for number, (job, row) in enumerate(zip(jobs, rows, strict=True)):
            if job in self._running:
                self._choose(job, row, number)

    def _guesses(self, batch: Sequence[tuple[GenerationTask, CachedSequence]]) -> list[list[int]]:
        """Of each job what may follow its last token, as far as there is room that nobody holds."""
        rooms = [self._runner.context_window_size - len(job.tokens) for job, _ in batch]
        found = self._speculation.guesses([job.guesses for job, _ in batch], rooms)
        growth = [(held, 1 + len(more)) for (_, held), more in zip(batch, found, strict=False)]
        return found if any(found) and self._pool.fits(growth) else []

    def _verify(
        self, batch: Sequence[tuple[GenerationTask, CachedSequence]], tokens: Sequence[Sequence[int]]
    ) -> None:
        """The last token of every answer, and the guesses behind it as long as each is what is chosen."""
        assert self._verifier is not None
        with self._blaming([job for job, _ in batch]), self._speculation.timed(sum(map(len, tokens))):
            rows = iter(self._verifier.verify([held.sequence for _, held in batch], tokens))
        for (job, held), more in zip(batch, tokens, strict=True):
            held.tokens += more
            wrong = len(more) - self._follow(job, list(islice(rows, len(more))), more[1:])
            with self._blaming([job]):
                self._pool.shorten(held, wrong)
        self._part()

    def _follow(self, job: GenerationTask, rows: Sequence[Logits], guesses: Sequence[int]) -> int:
        """Choose from one row after the other until a choice was not guessed; from how many."""
        for number, row in enumerate(rows):
            choice = self._take(job, row)
            self._tell()
            over = choice is None or job in self._complete or number == len(guesses)
            if over or job.tokens[-1] != guesses[number]:
                return number + 1
        return len(rows)

    def _choose(self, job: GenerationTask, row: Logits | TopK, number: int = 0) -> None:
        """`number` of the job in the call that `row` comes from."""
        choice = self._take(job, row, number)
        if choice is None or self._overlapping is None or job.sink.ends(choice):
            self._settle()

    def _take(self, job: GenerationTask, row: Logits | TopK, number: int = 0) -> SampledToken | None:
        """Its next token; None where choosing failed, and it with that."""
        try:
            choice = chosen(job.sampler, row, number, self._chooser)
            job.tokens.append(choice.token)
            job.last_token = time.perf_counter()
            job.first_token = job.first_token or job.last_token
        except Exception as error:  # noqa: BLE001  the job fails with it, the others go on
            job.sink.fail(self._failure(error))
            self._complete.append(job)
            return None
        self._untold.append((job, choice))
        return choice

    def _settle(self) -> None:
        """Everything that was chosen is told, and whoever is complete with it leaves."""
        self._tell()
        self._part()

    def _tell(self) -> None:
        """Calls nothing of the runner, which may be computing meanwhile."""
        untold, self._untold = self._untold, []
        for job, choice in untold:
            if job not in self._running and job not in self._waiting:
                continue  # nobody reads it any more
            try:
                if job.sink.push(choice, job):
                    self._complete.append(job)
            except Exception as error:  # noqa: BLE001  the job fails with it, the others go on
                job.sink.fail(self._failure(error))
                self._complete.append(job)

    def _part(self) -> None:
        while self._complete:
            job = self._complete.pop(0)
            if job in self._running or job in self._waiting:
                self._leave(job)

    # ---- who is in, and who has to go ----------------------------------------------------------------------

    def _with_room(self, jobs: Sequence[T], count: int) -> list[tuple[T, CachedSequence]]:
        """Those of `jobs` that can grow by `count` tokens, after the last to come have made room."""
        while True:
            fitting = [(job, job.held) for job in jobs if job in self._running and job.held is not None]
            with self._blaming(jobs):
                enough = self._pool.make_room([(held, count) for _, held in fitting])
                if enough or len(self._running) == 1:
                    return fitting
                self._give_up()

    def _give_up(self) -> None:
        """The last that came makes room, and is computed again when there is some."""
        last = self._running.pop()
        self._waiting.appendleft(last)
        self._crowded = True
        held, last.held = last.held, None
        if held is not None:
            self._pool.drop(held)

    def _leave(self, job: Task, error: EngineError | None = None) -> None:
        """What it has computed is kept: the conversation may go on."""
        if error is not None:
            job.sink.fail(error)
        if job in self._waiting:
            self._waiting.remove(job)
            return
        self._running.remove(job)
        self._crowded = False
        if job.held is not None:
            with self._blaming([]):
                self._pool.finish(job.held)

    @contextmanager
    def _blaming(self, jobs: Sequence[Task]) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise _RunnerFailedError(jobs) from error

    def _failure(self, error: BaseException) -> EngineError:
        if isinstance(error, EngineError):
            return error
        if isinstance(error, NothingToChooseError):
            failure = GenerationFailed(self._engine, str(error))
            failure.__cause__ = error
            return failure
        return unmeant(self._engine, error, "memory ran out in the midst of an answer")

    def _recover(self, failure: _RunnerFailedError) -> None:
        """The jobs that met the error fail. The others start again on an empty KV cache."""
        self._tell()
        for job in failure.jobs:
            if job not in self._complete:
                job.sink.fail(self._failure(failure.__cause__ or failure))
        self._start_anew([*failure.jobs, *self._complete])
        self._complete.clear()
        self._crowded, self._damaged = False, True

    def _start_anew(self, over: Sequence[Task]) -> None:
        """Nobody runs any more; all but those that are `over` wait, in their order, to be computed again."""
        going = [job for job in self._running if job not in over]
        for job in going:
            job.held = None
        self._waiting = deque([*going, *(job for job in self._waiting if job not in over)])
        self._running.clear()
