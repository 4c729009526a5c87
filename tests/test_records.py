"""Our `dataclass` does what the library's does."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any, ClassVar

import pytest
from table import each

from edge_router import records


def classes(make: Any) -> dict[str, Any]:
    """The same classes by either decorator."""

    @make(frozen=True, slots=True)
    class Frozen:
        """Two of them have defaults."""

        a: int
        b: str = "b"
        c: list[int] = field(default_factory=list, hash=False)
        d: float = field(default=1.5, compare=False, repr=False)
        CONSTANT: ClassVar[int] = 7

    @make(frozen=True, slots=True)
    class Below(Frozen):
        b: str = "other"
        e: int = 0

        def __post_init__(self) -> None:
            if self.e < 0:
                raise ValueError("e")

        def __repr__(self) -> str:
            return f"<{self.e}>"

    @make(slots=True)
    class Open:
        a: int
        seen: list[int] = field(init=False, default_factory=list)
        count: int = field(init=False, default=3)

    @make(slots=True, eq=False, kw_only=True)
    class Named:
        a: int
        b: int = 2

    @make
    class Plain:
        a: int = 1
        next: Any = None

        def twice(self) -> int:
            return self.a * 2

    @make(frozen=True, slots=True, init=False)
    class OwnInit:
        a: int

        def __init__(self, text: str) -> None:
            object.__setattr__(self, "a", int(text))

    @make(frozen=True, slots=True)
    class OwnEquality:
        a: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, OwnEquality) and self.a.lower() == other.a.lower()

        def __hash__(self) -> int:
            return 5

    @make(frozen=True)
    class Base:
        a: int = 0

    class Undecorated(Base):
        pass

    @make(slots=True)
    class Empty:
        pass

    return {name: value for name, value in locals().items() if isinstance(value, type)}


LIBRARY, OURS = classes(dataclasses.dataclass), classes(records.dataclass)
Asked = Callable[[dict[str, Any]], Any]


def put(each_of: Any, name: str, value: object) -> Any:
    setattr(each_of, name, value)
    return each_of


def recursive(one: Any) -> str:
    one.next = one
    return repr(one)


def matched(one: Any, kind: type) -> Any:
    match one:
        case kind(a, b):
            return a, b


QUESTIONS: dict[str, Asked] = {
    "positions": lambda k: repr(k["Frozen"](1, "x", [2])),
    "names": lambda k: repr(k["Frozen"](a=1, c=[3])),
    "missing": lambda k: k["Frozen"](),
    "unknown": lambda k: k["Frozen"](1, z=1),
    "too many": lambda k: k["Open"](1, 2),
    "not repeated": lambda k: k["Frozen"](1).d,
    "a list each": lambda k: k["Frozen"](1).c is k["Frozen"](1).c,
    "equal": lambda k: k["Frozen"](1, d=2.0) == k["Frozen"](1, d=3.0),
    "unequal": lambda k: k["Frozen"](1) == k["Frozen"](2),
    "of another class": lambda k: k["Frozen"](1) == k["Below"](1),
    "of no class": lambda k: k["Frozen"](1).__eq__(1),
    "hash": lambda k: hash(k["Frozen"](1, "x")) == hash((1, "x", 1.5)[:2]),
    "unhashable": lambda k: hash(k["Open"](1)),
    "hash of identity": lambda k: hash(one := k["Named"](a=1)) == object.__hash__(one),
    "equality of identity": lambda k: k["Named"](a=1) == k["Named"](a=1),
    "own hash": lambda k: (hash(k["OwnEquality"]("a")), k["OwnEquality"]("a") == k["OwnEquality"]("A")),
    "below": lambda k: (k["Below"](1, e=2).b, repr(k["Below"](1, e=2))),
    "checked": lambda k: k["Below"](1, e=-1),
    "assigned": lambda k: put(k["Frozen"](1), "a", 2),
    "assigned what is no field": lambda k: put(k["Base"](1), "z", 2),
    "assigned below": lambda k: put(k["Below"](1), "a", 2),
    "assigned below, undecorated": lambda k: put(k["Undecorated"](1), "a", 2),
    "another attribute below, undecorated": lambda k: put(k["Undecorated"](1), "z", 2).z,
    "deleted": lambda k: delattr(k["Frozen"](1), "a"),
    "open": lambda k: put(k["Open"](1), "a", 5).a,
    "not asked": lambda k: (k["Open"](1).seen, k["Open"](1).count, repr(k["Open"](1))),
    "by name only": lambda k: k["Named"](1),
    "named": lambda k: repr(k["Named"](a=1)),
    "plain": lambda k: (k["Plain"]().twice(), repr(k["Plain"](4)), k["Plain"](1) == k["Plain"](1)),
    "within itself": lambda k: recursive(k["Plain"](1)),
    "own init": lambda k: k["OwnInit"]("12").a,
    "empty": lambda k: (repr(k["Empty"]()), k["Empty"]() == k["Empty"]()),
    "replace": lambda k: repr(dataclasses.replace(k["Frozen"](1), b="y")),
    "replace what is not asked": lambda k: dataclasses.replace(k["Open"](1), count=4),
    "as a dict": lambda k: dataclasses.asdict(k["Frozen"](1)),
    "fields": lambda k: [one.name for one in dataclasses.fields(k["Below"])],
    "match": lambda k: matched(k["Frozen"](1, "x"), k["Frozen"]),
    "constant": lambda k: k["Frozen"].CONSTANT,
    "doc": lambda k: k["Frozen"].__doc__,
    "slots": lambda k: put(k["Open"](1), "z", 1),
    "copy": lambda k: repr(copy.copy(k["Frozen"](1, "x", [4]))),
    "deep copy": lambda k: copy.deepcopy(k["Below"](1, "x", [4], 2.5, 6)).d,
    "copy of an open one": lambda k: repr(copy.copy(put(k["Open"](1), "count", 9))),
}


def answer(question: Asked, classes_: dict[str, Any]) -> object:
    try:
        return question(classes_)
    except Exception as error:  # noqa: BLE001 - what is compared
        return type(error), str(error).split(".")[-1]


@each("name", list(QUESTIONS))
def test_as_the_library_does_it(name: str) -> None:
    theirs = answer(QUESTIONS[name], LIBRARY)
    assert answer(QUESTIONS[name], OURS) == theirs, "the first time, when it is compiled"
    assert answer(QUESTIONS[name], OURS) == theirs, "the second time"


def test_one_goes_to_another_process_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = OURS["Frozen"]
    kind.__qualname__ = "Frozen"
    monkeypatch.setattr(sys.modules[__name__], "Frozen", kind, raising=False)
    one = kind(3, "three", [3], 0.25)
    back = pickle.loads(pickle.dumps(one))
    assert (back.a, back.b, back.c, back.d) == (3, "three", [3], 0.25)
    with pytest.raises(FrozenInstanceError):
        back.a = 4


def test_nothing_is_compiled_before_it_is_called() -> None:
    kind = classes(records.dataclass)["Frozen"]
    late = kind.__init__
    kind(1)
    assert kind.__init__ is not late
    assert kind.__init__.__qualname__.endswith("Frozen.__init__")
