"""`astray status`: how far the studies of a store are, on this machine and in the queue of a cluster."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from astray.cli.listing import STORE_FOLDER
from astray.cli.options import OUT

if TYPE_CHECKING:
    from astray.artifacts.bucket_locks import Holder

SHOWN = 20
"""Steps that are told one by one in each state."""


def status(out: Path, store: str | None, only_failed: bool) -> None:
    """Show the steps that run, wait or failed, and count the others."""
    from astray.artifacts import Store
    from astray.artifacts.status import State
    from astray.artifacts.status import status as status_of

    artifact_store = Store(out / "store" if store is None else store)
    studies = status_of(artifact_store)
    if not studies:
        print(f"No study was run in {artifact_store.folder}.")
    shown_states = (State.FAILED,) if only_failed else (State.RUNNING, State.QUEUED, State.FAILED)
    for study, steps in studies.items():
        counts = Counter(step.state for step in steps)
        print(f"{study}: " + ", ".join(f"{counts[state]:,} {state}" for state in State if counts[state]))
        for state in shown_states:
            of_state = [step for step in steps if step.state is state]
            shown = of_state if only_failed else of_state[:SHOWN]
            for step in shown:
                job = f"  job {step.job}" if step.job else ""
                print(f"  {state:<8} {step.name}{job}{_held(step.holder)}{f'  log: {step.log}' if step.log else ''}")
            if len(of_state) > len(shown):
                print(f"  {state:<8} and {len(of_state) - len(shown):,} more")


def _held(holder: "Holder | None") -> str:
    """Return on which other machine a step runs."""
    from astray.engine.forecast.amounts import duration

    if holder is None:
        return ""
    if holder.is_gone and holder.silent:
        return f"  on {holder.machine}, last heard of {duration(holder.silent)} ago: the next run takes it over"
    return f"  on {holder.machine}, for {duration(holder.held)}"


COMMAND = click.Command(
    "status",
    callback=status,
    params=[
        click.Option(["--only-failed"], is_flag=True, help="Show failed steps alone, all of them."),
        OUT,
        STORE_FOLDER,
    ],
    help="Show how far each study of a store is: steps that are queued, running, done and failed, with the job and "
    "its log where they run on a cluster, and of a store in a bucket the other machine that runs one. The driver need not be "
    "at work.",
    short_help="Show the steps that are queued, running, done and failed.",
)
