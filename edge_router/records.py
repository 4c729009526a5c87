"""`dataclass` as the standard library has it, whose methods are compiled when they are first called.

The library compiles every method of every class by `exec` when its module is imported. One answer imports
three hundred classes and makes a few dozen of them: compiling the others was a sixth of its start.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, FrozenInstanceError
from functools import partial
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass

    from _typeshed import DataclassInstance
else:

    def dataclass(written: type | None = None, /, **asked: bool) -> Any:
        """The library's decorator, with those of its options that `_made` names."""
        return _made(written, **asked) if written is not None else partial(_made, **asked)


T = TypeVar("T", bound="DataclassInstance")


def changed(kept: T, **values: object) -> T:
    """`kept` with these values; itself where it has them already: a copy of a request takes 5 us."""
    new = {name: value for name, value in values.items() if getattr(kept, name) is not value}
    return dataclasses.replace(kept, **new) if new else kept


def _made(
    written: type,
    *,
    frozen: bool = False,
    slots: bool = False,
    init: bool = True,
    eq: bool = True,
    kw_only: bool = False,
) -> type:
    own = set(vars(written)) - ({"__hash__"} if vars(written).get("__hash__") is None else set())
    written.__doc__ = written.__doc__ or written.__name__  # or the library words a signature for it
    finished = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)
    made: Any = finished(written)
    wanted = {"__init__": init, "__repr__": True, "__eq__": eq, "__hash__": eq and frozen}
    for name in (name for name, asked in wanted.items() if asked and (name not in own or name == "__init__")):
        setattr(made, name, _late(made, name))
    if eq and not frozen and "__hash__" not in own:
        made.__hash__ = None
    if frozen:
        made.__setattr__, made.__delattr__ = _kept(made, "assign to"), _kept(made, "delete")
        if slots:  # pickle and copy would set each
            made.__getstate__, made.__setstate__ = _state, _set_state
    return made  # type: ignore[no-any-return]


def _late(made: type, name: str) -> Callable[..., Any]:
    """A method that puts the compiled one in its own place, and does what that does."""

    def method(self: object, *arguments: object, **named: object) -> Any:
        compiled = _COMPILERS[name](made, dataclasses.fields(made))
        compiled.__name__, compiled.__qualname__ = name, f"{made.__qualname__}.{name}"
        compiled.__module__ = made.__module__
        setattr(made, name, compiled)
        return compiled(self, *arguments, **named)

    return method


def _init(made: type, fields: Sequence[Field[Any]]) -> Callable[..., Any]:
    known: dict[str, Any] = {"_unset": MISSING, "_set": object.__setattr__}
    first, later, body = list[str](), list[str](), list[str]()
    for field in fields:
        name = field.name
        value = name
        if field.default is not MISSING:
            known[f"_{name}_default"] = field.default
            value = name if field.init else f"_{name}_default"
        elif field.default_factory is not MISSING:
            known[f"_{name}_made"] = field.default_factory
            value = f"_{name}_made() if {name} is _unset else {name}" if field.init else f"_{name}_made()"
        elif not field.init:
            continue
        if field.init:
            after = f"=_{name}_default" if f"_{name}_default" in known else ""
            after = "=_unset" if f"_{name}_made" in known else after
            (later if field.kw_only else first).append(name + after)
        slot = getattr(made, name, None)
        if isinstance(slot, MemberDescriptorType):
            known[f"_{name}_slot"] = slot.__set__
            body.append(f"_{name}_slot(_self, {value})")
        else:
            body.append(f"_set(_self, {name!r}, {value})")
    if hasattr(made, "__post_init__"):
        body.append("_self.__post_init__()")
    named = ["*", *later] if later else []
    return _compiled(f"{', '.join(['_self', *first, *named])}", body or ["pass"], known)


def _repr(made: type, fields: Sequence[Field[Any]]) -> Callable[..., Any]:
    shown = ", ".join(f"{field.name}={{self.{field.name}!r}}" for field in fields if field.repr)
    body = f"return f'{{self.__class__.__qualname__}}({shown})'"
    return reprlib.recursive_repr("...")(_compiled("self", [body], {}))


def _eq(made: type, fields: Sequence[Field[Any]]) -> Callable[..., Any]:
    names = [field.name for field in fields if field.compare]
    same = f"return {_tuple('self', names)} == {_tuple('other', names)}"
    return _compiled(
        "self, other", ["if other.__class__ is self.__class__:", f" {same}", "return NotImplemented"], {}
    )


def _hash(made: type, fields: Sequence[Field[Any]]) -> Callable[..., Any]:
    names = [field.name for field in fields if (field.compare if field.hash is None else field.hash)]
    return _compiled("self", [f"return hash({_tuple('self', names)})"], {})


_COMPILERS = {"__init__": _init, "__repr__": _repr, "__eq__": _eq, "__hash__": _hash}


def _tuple(owner: str, names: Sequence[str]) -> str:
    return f"({''.join(f'{owner}.{name},' for name in names)})"


def _compiled(parameters: str, body: Sequence[str], known: dict[str, Any]) -> Callable[..., Any]:
    lines = "\n ".join(body)
    exec(f"def method({parameters}):\n {lines}", known)  # noqa: S102 - of names in our own source
    return known.pop("method")  # type: ignore[no-any-return]


def _kept(made: type, what: str) -> Callable[..., None]:
    def refuse(self: object, name: str, *value: object) -> None:
        if type(self) is made or name in made.__dataclass_fields__:  # type: ignore[attr-defined]
            raise FrozenInstanceError(f"cannot {what} field {name!r}")
        getattr(super(made, self), "__setattr__" if value else "__delattr__")(name, *value)

    return refuse


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: Sequence[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
