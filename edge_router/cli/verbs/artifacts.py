"""`edge-router artifacts`: what was built on this machine, and how much room it takes."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.confirming import confirmed
from edge_router.errors import ArtifactCorrupt, InvalidModel, WeightsCorrupt
from edge_router.store import ArtifactRecord, ArtifactStore, RemovalPlan
from edge_router.store.tensor_index import records

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DAY_S = 86400.0


@app.callback()
def artifacts() -> None:
    """What was built: quantized weights, compiled libraries, what was read of system messages (prefix)."""


@app.command("list")
def list_(ctx: typer.Context, json: Json = False) -> None:
    """Everything that was built, newest use first."""
    store = _store(ctx)
    inventory = store.scan()
    if json:
        damaged = [{"path": str(d.path), "reason": d.reason, "bytes": d.bytes} for d in inventory.damaged]
        records = [_facts(record) for record in inventory.records]
        output.write_json({"artifacts": records, "damaged": damaged, "bytes": inventory.bytes})
        return
    rows = [
        (record.kind, record.model, output.size(record.bytes), output.ago(record.last_used), record.key[:12])
        for record in inventory.records
    ]
    output.table(("kind", "model", "size", "used", "key"), rows, right=("size",))
    for item in inventory.damaged:
        output.say(
            f"damaged: {item.path} ({item.reason}); remove it with: edge-router artifacts prune",
            style="yellow",
        )


@app.command()
def verify(ctx: typer.Context) -> None:
    """Read every byte and hold it against its checksum; exit code 1 where something is damaged."""
    store = _store(ctx)
    inventory = store.scan()
    bad = [f"{item.path}: {item.reason}" for item in inventory.damaged]
    for record in inventory.records:
        try:
            store.verify(record)
            if record.kind == "weights":
                records(record.path)
        except (ArtifactCorrupt, WeightsCorrupt, InvalidModel) as error:
            bad.append(str(error))
    for line in bad:
        output.say(line, style="red")
    if bad:
        output.say("Remove what is damaged with: edge-router artifacts clear --key KEY, or artifacts prune")
        raise typer.Exit(1)
    output.say(f"{len(inventory.records)} artifacts, {output.size(inventory.bytes)}: all is well.")


@app.command()
def prune(
    ctx: typer.Context,
    unused_for: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Also what was not used for so many days.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Also what was built so many days ago.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove what serves no more: leftovers, damaged ones, and those of other versions of edge_router."""
    store = _store(ctx)
    plan = store.plan_removal(other_versions=True)
    if unused_for is not None:
        plan = _both(plan, store.plan_removal(unused_for_s=unused_for * DAY_S))
    if older_than is not None:
        plan = _both(plan, store.plan_removal(older_than_s=older_than * DAY_S))
    _carry_out(plan, dry_run=dry_run, yes=yes)


@app.command()
def clear(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only what was built for this model.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Only these, by the beginning of their key.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only these: weights, library, prefix, ...")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove everything that was built; it is built again when it is needed."""
    store = _store(ctx)
    plan = store.plan_removal(kind=kind, model=model, keys=key or None)
    kinds = dict.fromkeys(record.kind for record in store.scan().records) if kind and not plan.items else {}
    if kinds and kind not in kinds:
        output.say(f"Nothing here is of the kind {kind!r}; there is: {', '.join(kinds)}.")
        return
    _carry_out(plan, dry_run=dry_run, yes=yes)


def _store(ctx: typer.Context) -> ArtifactStore:
    session = Session(ctx)
    return ArtifactStore(session.paths.artifacts, progress=session.progress)


def _carry_out(plan: RemovalPlan, *, dry_run: bool, yes: bool) -> None:
    if not plan.items:
        output.say("There is nothing to remove.")
        return
    for item in plan.items:
        output.say(f"{output.size(item.bytes).rjust(8)}  {item.path}")
    if dry_run:
        output.say(f"{output.size(plan.bytes)} would be freed.")
        return
    if not confirmed(f"Remove {len(plan)} and free {output.size(plan.bytes)}?", yes=yes):
        return
    done = plan.execute()
    for path, reason in done.kept:
        output.say(f"{path} stays: {reason}", style="yellow")
    output.say(f"Freed {output.size(done.bytes)}.")
    if done.kept:
        raise typer.Exit(1)


def _both(one: RemovalPlan, other: RemovalPlan) -> RemovalPlan:
    return RemovalPlan(
        tuple(dict.fromkeys((*one.records, *other.records))),
        tuple(dict.fromkeys((*one.damaged, *other.damaged))),
        one.remove,
    )


def _facts(record: ArtifactRecord) -> dict[str, object]:
    return {
        "kind": record.kind,
        "model": record.model,
        "key": record.key,
        "path": str(record.path),
        "bytes": record.bytes,
        "created": record.created,
        "last_used": record.last_used,
        "version": record.version,
        "inputs": dict(record.inputs),
    }
