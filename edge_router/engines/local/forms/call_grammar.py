"""The grammar of a family's calls: what a model may write when it calls, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from edge_router.engines.local.forms.call_arguments import CallArguments
from edge_router.engines.local.forms.grammar_rules import Rules, literal, sequence
from edge_router.prompts.answer_format import ELEMENT_END, CallFormat
from edge_router.records import dataclass

Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class HeldTool:
    """A tool, the schema that was stated of its arguments, and what can be held to of that."""

    name: str
    stated: Schema
    schema: Schema


def call_grammar(
    form: CallFormat,
    tools: Sequence[HeldTool],
    spelling: Schema,
    *,
    parallel: bool,
    otherwise: Schema | None = None,
) -> str:
    """One call or, with `parallel`, more, in llguidance's dialect of Lark's grammars. `otherwise` is the
    schema of an answer that may come instead; `spelling` says how JSON is written.

    Raises `UnsupportedRequest` for what calls of this form cannot hold.
    """
    rules = Rules()
    arguments = CallArguments(form, rules, spelling)
    calls = []
    for tool in tools:
        arguments.check_name(tool.name)
        before, behind = _around(form, tool.name)
        calls.append(sequence(literal(before), arguments.of(tool.schema, tool.stated), literal(behind)))
    start = _start(form, parallel=parallel)
    if otherwise is not None:
        start = f"({start}) | {rules.json({**otherwise, 'x-guidance': spelling})}"
    return "\n".join([f"start: {start}", f"call: {' | '.join(calls)}", *rules.lines()])


def endings(form: CallFormat) -> tuple[bytes, ...]:
    """What ends a text that stands in a call without JSON's quotes."""
    ends = {"elements": ELEMENT_END, "bare": form.quote}
    return (ends[form.style].encode(),) if form.style in ends else ()


def _start(form: CallFormat, *, parallel: bool) -> str:
    opened = form.open + ("[" if form.listed else "")
    closed = ("]" if form.listed else "") + form.close
    between = ", " if form.listed else form.between
    if form.again:
        one = sequence(literal(opened), "call", literal(closed))
        return f"{one} ({sequence(literal(between), one)})*" if parallel else one
    more = f"({sequence(literal(between), 'call')})*" if parallel else ""
    return sequence(literal(opened), "call", more, literal(closed))


def _around(form: CallFormat, name: str) -> tuple[str, str]:
    """What stands before the arguments of a call and behind them."""
    match form.style:
        case "elements":
            return f"<function={name}>\n", "</function>"
        case "keywords":
            return f"{name}(", ")"
        case "bare":
            return f"call:{name}{{", "}"
    if form.named:
        return f"{form.head}{name}{form.middle}", form.tail
    spelled = json.dumps(name, ensure_ascii=False)
    return f'{{"name": {spelled}, "{form.arguments}": ', "}"
