"""What `config init` tells of the model that it proposes."""

from __future__ import annotations

from edge_router.api.model_plans import ModelPlan
from edge_router.api.proposals import Proposal
from edge_router.cli.terminal import output
from edge_router.cli.verbs.planning import chart, explanation


def show(proposal: Proposal) -> None:
    """On stderr, for stdout belongs to the file's name."""
    report, plan = proposal.plan, proposal.plan.shown.settings
    speed = pace(report)
    output.say(f"This machine has room for {report.shown.model} in {plan.quantization}:")
    windows = f"context {plan.context_window_size}, prefill chunk {plan.prefill_chunk_size}"
    if plan.kv_cache != "auto":
        windows += f", KV cache {plan.kv_cache}"
    output.say(windows + (f", at most {speed}" if speed else ""))
    output.say("")
    for line in chart(report.shown):
        output.say(line)
    output.say("")
    output.say(explanation(report), style="dim")
    if proposal.larger:
        count = len(proposal.larger)
        some = (proposal.larger[place] for place in sorted({0, count // 2, count - 1}))
        named = [f"{one.shown.model} fits, at {pace(one) or 'an unknown speed'}" for one in some]
        output.say(f"Of the larger ones, {'; '.join(named)}.", style="dim")


def pace(report: ModelPlan) -> str:
    """How fast it would be, in words; "" where that is not known."""
    speed = report.tokens_per_s
    if speed is None:
        return ""
    count = round(speed)
    if count < 1:
        return "less than 1 token/s"
    return f"{count} token{'' if count == 1 else 's'}/s"
