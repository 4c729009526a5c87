"""Who may be asked, and how long a question waits: never where somebody can answer."""

from __future__ import annotations

from collections.abc import Callable

from table import each

from edge_router.config.sections import EndpointConfig, StrongConfig
from edge_router.engines.fleet.breaker import Fault
from edge_router.engines.fleet.course import LONGEST_WAIT_S, TRIAL_WAIT_S, Candidate, Course
from edge_router.engines.fleet.endpoints import StrongEndpoint
from edge_router.engines.fleet.member import Member
from edge_router.engines.remote.endpoint import Endpoint
from edge_router.errors import StrongFailed, StrongPaused, StrongTimeout

X = "http://127.0.0.1:1/v1"


class Fleet:
    """Members at a time that is set by hand."""

    def __init__(self, *words: str, ranks: str = "0000", retries: int = 2) -> None:
        """A word for each: what happened to it, one letter after the other."""
        self.now = 0.0
        self.members = [self._member(name, word) for name, word in zip("abcd", words, strict=False)]
        self.candidates = [Candidate(m, "m", int(rank)) for m, rank in zip(self.members, ranks, strict=False)]
        self.course = Course(self.candidates, 1, retries=retries, clock=self.clock, draw=lambda: 0.0)

    def clock(self) -> float:
        return self.now

    def _member(self, name: str, word: str) -> Member:
        """f failed three times, s slowly, k settled, F and its trial failed, too, t is being tried, g cools
        by our guess, p is probed meanwhile, r cools as it asked, b is busy, . works."""
        place = Endpoint.parse(X, f"endpoints.{name}.base_url")
        settings = EndpointConfig(name, concurrency=2)
        member = Member(StrongEndpoint(name, StrongConfig(), place, ("m",), None, settings), {}, self.clock)
        breaker, limits = member.breaker, member.limits
        for letter in word:
            if letter in "fFs":
                for _ in range(4 if letter == "F" else 3):
                    breaker.failed(breaker.begin(), Fault(slow=letter == "s"))
            elif letter == "k":
                breaker.failed(breaker.begin(), Fault(settled=True))
            elif letter == "t":
                breaker.begin()
            elif letter in "gr":
                limits.cool(None if letter == "g" else 600.0)
            elif letter in "pb":
                for _ in range(1 if letter == "p" else 2):
                    limits.begin(1)
        return member

    def ready(self) -> str:
        return "".join(each.member.name for each in self.course.ready())


# What happened to whom, how they rank, who is asked, and where nobody is, for how long it waits.
WAYS: tuple[tuple[str, str, str, float | None], ...] = (
    (". . .", "000", "abc", None),
    ("f . .", "000", "bc", None),
    ("g . b", "000", "b", None),
    # One that rests is tried before one that cools is waited for: this was the wait of two seconds.
    ("f r r", "000", "a", None),
    ("g r r", "000", "", 0.25),
    ("F g r", "000", "", 0.25),
    ("f g r", "000", "a", None),
    ("s g r", "000", "", 0.25),
    ("s F k", "000", "a", None),
    ("f b r", "000", "", LONGEST_WAIT_S),
    ("gp r r", "000", "", 1.0),
    ("ft r r", "000", "", TRIAL_WAIT_S),
    ("F k r", "000", "", None),
    ("k k r", "000", "", None),
    ("k r r", "000", "", None),
    # The one that is wanted, then the others in their order.
    (". . .", "012", "a", None),
    ("f . .", "021", "c", None),
    ("f r k", "021", "a", None),
    ("r k .", "001", "c", None),
)


@each("what, ranks, asked, wait_s", WAYS)
def test_who_is_asked(what: str, ranks: str, asked: str, wait_s: float | None) -> None:
    fleet = Fleet(*what.split(), ranks=ranks)
    assert fleet.ready() == asked
    if not asked:
        assert fleet.course.wait_s() == wait_s
        if wait_s is None:
            assert isinstance(fleet.course.over(), StrongPaused)


def test_it_waits_no_shorter_than_until_somebody_is_ready() -> None:
    """Or it would turn round and round."""
    for what in ("g r r", "F g r", "s g r", "gp r r"):
        fleet = Fleet(*what.split())
        while not fleet.ready():
            wait_s = fleet.course.wait_s()
            assert wait_s is not None and wait_s > 1e-3, what
            fleet.now += wait_s + 1e-9
        assert fleet.now < LONGEST_WAIT_S, what


def test_one_that_failed_is_asked_again_after_a_while() -> None:
    fleet = Fleet(".", "k")
    asked = fleet.candidates[0]
    for wait_s in (0.25, 0.5):
        assert fleet.ready() == "a"
        fleet.course.failed(asked, StrongFailed(X, 500, "broke"))
        assert (fleet.ready(), fleet.course.wait_s()) == ("", wait_s)
        fleet.now += wait_s
    fleet.course.failed(asked, StrongFailed(X, 500, "broke"))
    assert (fleet.ready(), fleet.course.wait_s()) == ("", None)
    assert isinstance(fleet.course.over(), StrongFailed)
    for error in (StrongTimeout(X, 60.0), StrongFailed(X, 400, "too long")):  # never helps
        fleet = Fleet(".", "k")
        fleet.course.failed(fleet.candidates[0], error)
        assert fleet.course.wait_s() is None, error


def test_of_those_that_failed_one_that_has_answered_others_since_goes_first() -> None:
    """And costs no further round: it is not in trouble any more."""
    fleet = Fleet(".", ".", ".")
    for candidate in fleet.candidates:
        fleet.course.failed(candidate, StrongFailed(X, 500, "broke"))
    fleet.now += 0.25
    assert fleet.ready() == "abc" and not any(each.recovered for each in fleet.candidates)
    fleet.members[1].answered_at = 0.1
    assert fleet.ready() == "b" and [each.recovered for each in fleet.candidates] == [False, True, False]
    fleet.course.failed(fleet.candidates[1], StrongFailed(X, 500, "broke again"))
    assert fleet.ready() == "ac" and not fleet.candidates[1].recovered
    fleet.members[0].answered_at = fleet.candidates[0].failed_at  # of the same moment: nothing is known
    assert not fleet.candidates[0].recovered


def test_a_probe_that_is_answered_ends_the_cooling() -> None:
    def probe(then: Callable[[Fleet], None]) -> float:
        fleet = Fleet("g", "r")
        fleet.now = 0.25
        assert fleet.ready() == "a"
        then(fleet)
        return fleet.members[0].limits.cooling_s

    def answers(fleet: Fleet) -> None:
        limits = fleet.members[0].limits
        usage = limits.begin(1)
        assert usage.probes and limits.ready_in(1, early=True) == 0.75  # one probe is enough
        limits.answers(usage)
        limits.end(usage, 1)

    def refuses(fleet: Fleet) -> None:
        limits = fleet.members[0].limits
        usage = limits.begin(1)
        limits.cool(None)
        limits.end(usage, None)
        assert limits.ready_in(1, early=True) == 0.5

    assert probe(answers) == 0.0
    assert probe(refuses) == 2.0
