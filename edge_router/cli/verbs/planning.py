"""Plans for people: what `plan`, `config init` and `doctor --memory` show."""

from __future__ import annotations

from edge_router.api.model_plans import ModelPlan
from edge_router.cli.terminal import output
from edge_router.parsing.sizes import binary
from edge_router.vram import PARTS, Plan, Remedy

TITLES = {
    "parameters": "parameters",
    "kv_cache": "KV cache",
    "workspace": "workspace",
    "router": "router",
    "runtime": "runtime",
    "margin": "margin",
}
_BAR = 40  # characters of the whole total


def tell(report: ModelPlan, *, explain: bool = False) -> None:
    """One model's plan on stdout, and what was changed or would help on stderr."""
    shown, settings = report.shown, report.shown.settings
    for note in report.notes:
        output.say(f"Note: {note}.", style="yellow")
    if report.short_of:
        output.say(
            f"Note: other programs hold so much that {binary(report.short_of)} of it are not free now; "
            f"--vram-budget 100% plans with what is.",
            style="yellow",
        )
    output.write(
        f"{shown.model} in {settings.quantization} on {report.room.device}: {_verdict_words(report)}\n"
    )
    output.write(f"{_windows(report)}\n\n")
    output.write("\n".join(chart(shown)) + "\n")
    if explain:
        rows = [(TITLES[item.part], item.name, binary(item.bytes), str(item)) for item in shown.products]
        output.write("\n")
        output.table(("part", "what", "memory", "how"), rows, right=("memory",))
    output.write(f"\n{explanation(report)}\n")
    if not report.asked.fits:
        output.say(_advice(report), style="yellow")


def explanation(report: ModelPlan) -> str:
    """The line below a plan, and below the table of all."""
    room = report.room
    free = f", {binary(room.free)} free" if room.free is not None else ""
    speed = "tok/s: the bandwidth is not known; name the GPU with --gpu, or give it with --bandwidth"
    if report.bandwidth is not None:
        speed = f"tok/s: at most, at {report.bandwidth / 1e9:.0f} GB/s ({report.source})"
    return f"{binary(room.budget)} on {room.device}{free}. {speed}."


def chart(plan: Plan) -> list[str]:
    """A bar for each part, all together as long as the total, and the total's share of the budget."""
    width = max(len(title) for title in TITLES.values())
    lines = []
    for part in PARTS:
        count = plan.bytes(part)
        bar = "#" * max(1 if count else 0, round(_BAR * count / plan.total))
        lines.append(f"{TITLES[part].ljust(width)}  {binary(count):>9}  {bar}".rstrip())
    share = f"{plan.total / plan.budget:.0%} of {binary(plan.budget)}"
    lines.append(f"{'total'.ljust(width)}  {binary(plan.total):>9}  {share}")
    return lines


def remedy_words(remedy: Remedy) -> str:
    """As it is typed: `context_window_size=4096`."""
    return f"{remedy.knob}={remedy.value}"


def _verdict_words(report: ModelPlan) -> str:
    if report.best is None:
        return f"does not fit: {binary(report.shown.lacking)} are lacking"
    return f"fits with {' and '.join(changed)}" if (changed := cut_words(report)) else "fits"


def cut_words(report: ModelPlan) -> list[str]:
    """How what fits differs from what was asked."""
    if report.best is None:
        return []
    found, wish = report.best.settings, report.wish
    words = []
    if not report.keeps(context=True, chunk=False):
        words.append(f"a context of {found.context_window_size} instead of {wish.context_window_size}")
    if not report.keeps(context=False, chunk=True):
        asked = min(wish.prefill_chunk_size, found.context_window_size)
        words.append(f"a prefill chunk of {found.prefill_chunk_size} instead of {asked}")
    if found.kv_cache != report.asked.settings.kv_cache:
        words.append("keys and values in 8 bits")
    if found.sliding_window_size != report.asked.settings.sliding_window_size:
        words.append(f"a sliding window of {found.sliding_window_size}")
    return words


def _windows(report: ModelPlan) -> str:
    settings = report.shown.settings
    words = [f"context {settings.context_window_size}"]
    if settings.sliding_window_size > 0:
        words.append(f"sliding window {settings.sliding_window_size}")
    if settings.kv_cache != "auto":
        words.append(f"KV cache {settings.kv_cache}")
    words.append(f"prefill chunk {settings.prefill_chunk_size}")
    room = f" (room for {report.together})" if report.together > settings.max_sequences else ""
    words.append(f"conversations {settings.max_sequences}{room}")
    longest = report.largest_context
    if not longest:
        words.append("no context fits")
    elif longest > settings.context_window_size:
        words.append(f"longest context that fits {longest}")
    if report.tokens_per_s is not None:
        words.append(f"at most {report.tokens_per_s:.0f} tok/s")
    return ", ".join(words)


def _advice(report: ModelPlan) -> str:
    """What was asked does not fit: what that would take, and which settings would do.

    Where something smaller fits, it is shown above; only what keeps the asked context is worth naming then.
    """
    asked, wish = report.asked, report.wish
    turned = () if report.best is None else ("context_window_size", "prefill_chunk_size")
    remedies = [item for item in report.remedies if item.knob not in turned]
    windows = f"A context of {wish.context_window_size} with a prefill chunk of {wish.prefill_chunk_size}"
    times = f" for {wish.max_sequences} conversations" if wish.max_sequences > 1 else ""
    begin = f"{windows}{times} takes {binary(asked.total)}, {binary(asked.lacking)} too much"
    enough = [item for item in remedies if item.enough]
    if enough:
        return f"{begin}; it fits with {' or '.join(map(remedy_words, enough))}."
    least = f"the least that would do is {binary(report.smallest_budget)} at this context"
    if report.best is not None or not remedies:
        return f"{begin}; {least}."
    parts = [f"{remedy_words(item)} frees {binary(item.frees)}" for item in report.remedies]
    return f"{begin}; no single setting is enough ({'; '.join(parts)}); {least}."
