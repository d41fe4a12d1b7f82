"""`astray clean`: frees store space, by age or by study, after showing what it would remove."""

import sys
from pathlib import Path

import click

from astray.cli.listing import STORE_FOLDER, age_text, size_text
from astray.cli.options import OUT, Amount, option
from astray.errors import ConfigurationError

SHOWN = 12
"""Steps that are told one by one; the largest ones."""


def clean(out: Path, store: str | None, older_than: float | None, study: str | None, yes: bool) -> None:
    """Show what would be removed, ask, and remove it."""
    from astray.artifacts import Store
    from astray.artifacts.cleaning import removable, remove

    if older_than is None and study is None:
        raise ConfigurationError(
            "Say what to remove: --older-than 30 for steps of 30 days or more, --study NAME for those of one study, "
            "or both."
        )
    artifact_store = Store(out / "store" if store is None else store)
    chosen = sorted(removable(artifact_store, days=older_than, study=study), key=lambda step: -step.size)
    if not chosen:
        print(f"There is nothing of that kind to remove in {artifact_store.folder}.")
        return
    for step in chosen[:SHOWN]:
        print(f"  {step.name}: {size_text(step.size)}, {age_text(step.days)} old")
    if len(chosen) > SHOWN:
        print(f"  and {len(chosen) - SHOWN:,} smaller ones")
    question = (
        f"{len(chosen):,} {'steps' if len(chosen) > 1 else 'step'}, {size_text(sum(step.size for step in chosen))}, "
        f"in {artifact_store.folder}"
    )
    print(f"{question}.\nReports and tables stay; a study that needs a removed step does it again.")
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(
                "Nothing was removed: there is no terminal to ask in. Give --yes to remove without a question."
            )
        if not click.confirm("Remove them?"):
            print("Nothing was removed.")
            return
    gone = remove(artifact_store, chosen)
    stayed = f"; {len(chosen) - len(gone):,} stayed, since a study uses them" if len(gone) < len(chosen) else ""
    print(f"Removed {size_text(sum(step.size for step in gone))}{stayed}.")


COMMAND = click.Command(
    "clean",
    callback=clean,
    params=[
        option("--older-than", Amount(), "Steps that were finished so many days ago, or before.", "DAYS"),
        option("--study", str, "Steps that this study alone uses.", "STUDY"),
        click.Option(["--yes"], is_flag=True, help="Remove without a question."),
        OUT,
        STORE_FOLDER,
    ],
    help="Remove steps, finished ones and what killed ones left, from a store, by age, by study or both. It tells "
    "what it will remove and asks. What a running study uses stays, as do reports and tables of results.",
    short_help="Remove kept steps, by age or by study.",
)
