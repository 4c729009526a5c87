"""The grammar of a family's calls: what a model may write when it calls, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence

from edge_router.prompts.answer_format import CallFormat


def call_grammar(
    form: CallFormat,
    names: Sequence[str],
    schemas: Sequence[str],
    *,
    parallel: bool,
    otherwise: str | None = None,
) -> str:
    """One call or, with `parallel`, more, in llguidance's dialect of Lark's grammars. `otherwise` is the
    schema of an answer that may come instead.

    `schemas` are of the arguments of the tools with these `names`, in JSON. The form is one that can be held.
    """
    assert form.held
    rules = [f"call: {' | '.join(f'call{number}' for number in range(len(names)))}"]
    same: dict[str, str] = {}  # schema -> the rule that it has
    for number, (name, schema) in enumerate(zip(names, schemas, strict=True)):
        before, behind = _around(form, name)
        rules += [f"call{number}: {_joined(before, same.setdefault(schema, f'arguments{number}'), behind)}"]
    rules += [f"{rule}: %json {schema}" for schema, rule in same.items()]
    start = _start(form, parallel=parallel)
    if otherwise is not None:
        start, rules = f"({start}) | answer", [*rules, f"answer: %json {otherwise}"]
    return "\n".join([f"start: {start}", *rules])


def _start(form: CallFormat, *, parallel: bool) -> str:
    opened = form.open + ("[" if form.listed else "")
    closed = ("]" if form.listed else "") + form.close
    between = ", " if form.listed else form.between
    if form.again:
        one = _joined(opened, "call", closed)
        return f"{one} ({_joined(between, one)})*" if parallel else one
    more = f"({_joined(between, 'call')})*" if parallel else ""
    return _joined(opened, f"call {more}".rstrip(), closed)


def _around(form: CallFormat, name: str) -> tuple[str, str]:
    """What stands before the arguments of a call and behind them."""
    if form.named:
        return f"{form.head}{name}{form.middle}", form.tail
    spelled = json.dumps(name, ensure_ascii=False)
    return f'{{"name": {spelled}, "{form.arguments}": ', "}"


def _joined(before: str, rule: str, behind: str = "") -> str:
    """A rule between texts; a text that is empty is none in a grammar."""
    texts = [json.dumps(before, ensure_ascii=False)] if before else []
    ends = [json.dumps(behind, ensure_ascii=False)] if behind else []
    return " ".join([*texts, rule, *ends])
