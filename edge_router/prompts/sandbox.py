"""Jinja's sandbox with limits: a chat template comes from strangers, and `"A" * 10**8` is valid Jinja.

Jinja's own sandbox keeps a template away from Python; it does not limit what a template builds. Here every
operation that can build something big says beforehand how big, and spends that from a budget. What holds:

- the size of every value, containers counted with all they hold, is at most what has been spent;
- so no single operation in C takes long, and the clock is looked at between operations.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import chain
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS as DEFAULT_FILTERS
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context
from jinja2.visitor import NodeTransformer

_CONTAINERS: tuple[type[Collection[Any]], ...] = (
    list,
    tuple,
    dict,
    set,
    frozenset,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)
_BIG_INT_BITS = 4096
_WIDE_FORMAT = re.compile(r"\d{4,}|%[^%a-zA-Z(]*\*|\{[^{}]*\{")  # widths of thousands, or out of an argument

# Filters by what they read: nothing much, every item, all the text within. The rest of Jinja's filters don't
# occur in chat templates and are not offered.
_CONSTANT = {
    "abs",
    "attr",
    "count",
    "d",
    "default",
    "first",
    "float",
    "int",
    "items",
    "last",
    "length",
    "round",
}
_SHALLOW = {
    *("dictsort", "groupby", "list", "map", "max", "min", "reject", "rejectattr", "reverse"),
    *("select", "selectattr", "sort", "unique"),
}
_DEEP = {
    *("capitalize", "e", "escape", "forceescape", "lower", "safe", "string", "title"),
    *("trim", "truncate", "upper", "urlencode", "wordcount"),
}
_BUILDING = {"batch", "center", "format", "indent", "join", "replace", "slice", "sum"}
_REFUSED_METHODS = {"encode", "format_map", "from_bytes", "maketrans", "to_bytes", "translate"}
_PADDING_METHODS = {"center", "expandtabs", "ljust", "rjust", "zfill"}


class LimitReached(Exception):
    """The template builds too much, or takes too long."""


class Budget:
    """What one rendering may build (characters and items, all in all) and take (seconds of this thread)."""

    def __init__(self, work: int, seconds: float) -> None:
        self._left, self._seconds = work, seconds
        self._deadline = time.thread_time() + seconds

    def spend(self, amount: int) -> None:
        self._left -= amount + 1
        if self._left < 0:
            raise LimitReached("it builds too much text")
        if time.thread_time() > self._deadline:
            raise LimitReached(f"it takes more than {self._seconds:g} s")

    def spend_on(self, *values: object, times: int = 1) -> None:
        """Spend the size of `values`, counted with all that they hold."""
        self.spend(times * sum(self._size(value) for value in values))

    def _size(self, value: object) -> int:
        total = 0
        waiting: list[Any] = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, str):
                total += len(item)
            elif isinstance(item, dict):
                waiting += chain(item.keys(), item.values())
            elif isinstance(item, _CONTAINERS):
                waiting.extend(item)
            total += 1
            if total > self._left:
                raise LimitReached("it builds too much text")
        return total


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Compile a template with `limited_template`; render it within `spending(Budget(...))`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, extensions: Sequence[type[Extension]] = ()) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # the optimizer computes constants while compiling, where nothing is limited
            extensions=[loopcontrols, *extensions],
            finalize=self._shown,
        )
        self._thread = threading.local()
        self.filters = {name: self._limited(name) for name in _CONSTANT | _SHALLOW | _DEEP | _BUILDING} | {
            "tojson": self._tojson,
            "_each": self._each,
            "_built": self._built,
            "_sliced": self._sliced,
            "_joined": self._joined,
        }
        del self.globals["lipsum"]

    def limited_template(self, source: str) -> Template:
        tree = _Limiter().visit(self.parse(source))
        tree.set_environment(self)
        return super().from_string(tree)

    @contextmanager
    def spending(self, budget: Budget) -> Iterator[None]:
        self._thread.budget = budget
        try:
            yield
        finally:
            del self._thread.budget

    @property
    def _budget(self) -> Budget:
        return self._thread.budget  # type: ignore[no-any-return]

    # ---- what Jinja calls ----------------------------------------------------------------------------------

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            # Adding to a list is paid for what is new, so that a list can grow item by item.
            self._budget.spend(len(left) if isinstance(left, str | list | tuple) else 1)
            self._budget.spend_on(right)
        elif operator == "%" and isinstance(left, str):
            self._check_format(left, "%", right)
        elif operator in ("*", "**"):
            self._check_product(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        budget = __self._budget
        budget.spend_on(args, kwargs)
        method = getattr(__obj, "__wrapped__", __obj)  # Jinja wraps str.format
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str | bytes | int):
            __self._check_method(owner, name, args, kwargs)
        if name == "join" and isinstance(owner, str):
            return __self._joined_by(owner, *args)
        result = super().call(__context, __obj, *args, **kwargs)
        budget.spend(_length(result))
        return result

    @pass_context
    def _shown(self, _: Context, value: object) -> object:
        """Every expression passes here on its way to the output, or into a set block."""
        self._budget.spend_on(value)
        return value

    # ---- prices --------------------------------------------------------------------------------------------

    def _check_product(self, operator: str, left: Any, right: Any) -> None:
        for value, count in ((left, right), (right, left)):
            if operator == "*" and isinstance(value, str | list | tuple) and isinstance(count, int):
                self._budget.spend_on(value, times=max(count, 0))
        if isinstance(left, int) and isinstance(right, int):
            bits = (
                left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
            )
            if bits > _BIG_INT_BITS:
                raise LimitReached("it computes too large a number")

    def _check_format(self, form: str, mark: str, *values: object) -> None:
        if _WIDE_FORMAT.search(form):
            raise LimitReached("it formats too wide a text")
        self._budget.spend_on(*values, times=form.count(mark))
        self._budget.spend(len(form) + 1000 * form.count(mark))

    def _check_method(
        self, owner: str | bytes | int, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        if name in _REFUSED_METHODS:
            raise SecurityError(f"a chat template may not call {type(owner).__name__}.{name}")
        if not isinstance(owner, str):
            return
        if name in _PADDING_METHODS:
            width = max((abs(v) for v in (*args, *kwargs.values()) if isinstance(v, int)), default=8)
            self._budget.spend(len(owner) + width * (owner.count("\t") if name == "expandtabs" else 1))
        elif name == "replace" and len(args) >= 2:
            self._pay_replace(owner, args[0], args[1])
        elif name == "format":
            self._check_format(owner, "{", args, kwargs)

    def _pay_replace(self, text: object, old: object, new: object) -> None:
        text, old = str(text), str(old)
        self._budget.spend(len(text) + text.count(old) * len(str(new)))

    def _limited(self, name: str) -> Callable[..., Any]:
        function = DEFAULT_FILTERS[name]
        offset = 1 if hasattr(function, "jinja_pass_arg") else 0  # the context comes before the value

        @wraps(function)
        def limited(*args: Any, **kwargs: Any) -> Any:
            value, rest = args[offset], (*args[offset + 1 :], *kwargs.values())
            self._budget.spend_on(*rest)
            if name in _SHALLOW:
                self._budget.spend(_length(value))
            elif name not in _CONSTANT:
                self._budget.spend_on(value)
            if name in _BUILDING:
                value = self._check_filter(name, value, rest)
            return function(*args[:offset], value, *args[offset + 1 :], **kwargs)

        return limited

    def _check_filter(self, name: str, value: Any, rest: Sequence[Any]) -> Any:
        """Pay for what a filter builds. Returns its input, as a list if it came item by item."""
        numbers = max((abs(item) for item in rest if isinstance(item, int)), default=0)
        texts = max((len(item) for item in rest if isinstance(item, str)), default=0)
        if name == "format":
            self._check_format(str(value), "%", rest)
        elif name == "replace":
            self._pay_replace(value, *rest[:2])
        elif name == "indent":
            self._budget.spend(str(value).count("\n") * max(numbers, texts, 4))
        elif name in ("batch", "slice", "center"):
            self._budget.spend_on(*rest, times=numbers or 1)
        else:  # join, sum
            if name == "sum" and any(isinstance(item, list | tuple) for item in rest):
                raise SecurityError("a chat template may only sum numbers")
            value = list(value)
            self._budget.spend_on(value)
            self._budget.spend(len(value) * texts)
        return value

    # ---- what the compiled template calls, see _Limiter ----------------------------------------------------

    def _each(self, items: Iterable[Any], price: int) -> Iterator[Any]:
        for item in items:
            self._budget.spend(price)
            yield item

    def _built(self, value: Any) -> Any:
        self._budget.spend_on(value)
        return value

    def _sliced(self, value: Any) -> Any:
        self._budget.spend(_length(value))
        return value

    def _joined(self, values: Sequence[Any]) -> str:
        self._budget.spend_on(*values)
        return "".join(map(str, values))

    def _joined_by(self, separator: str, values: Iterable[Any]) -> str:
        items = list(values)
        self._budget.spend_on(items)
        self._budget.spend(len(separator) * len(items))
        return separator.join(items)

    def _tojson(
        self, value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any
    ) -> str:
        """As transformers has it: Jinja's own escapes for HTML, which models were not trained on."""
        self._budget.spend_on(value)
        if indent is not None and not 0 <= indent <= 8:
            raise LimitReached("it indents JSON too far")
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


class _Limiter(NodeTransformer):
    """Sends through the environment what Jinja would do inline: loops, `~`, literals, slices."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        price = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_each", nodes.Const(price))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_joined")

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return _filtered(self.generic_visit(node), "_built")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return _filtered(self.generic_visit(node), "_built")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_built") if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_sliced") if isinstance(node.arg, nodes.Slice) else node


def _filtered(node: nodes.Node, name: str, *args: nodes.Node) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _length(value: Any) -> int:
    sized = isinstance(value, (str | bytes | range, _CONTAINERS))
    return len(value) if sized else 1
