"""`astray list`: what there is: studies, subjects, finished runs and what they take."""

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from astray.cli.options import OUT, option

if TYPE_CHECKING:
    from astray.artifacts import Store
    from astray.artifacts.cleaning import Kept

STORE_FOLDER = option("--store", str, "Folder of the finished steps. By default in the results folder.", "PATH")


def list_all(out: Path, store: str | None) -> None:
    """Print studies, subjects, finished runs with size and age, and what the store holds."""
    from astray.artifacts import Store
    from astray.subjects.registered import STORE_VARIABLE

    named = os.environ.get(STORE_VARIABLE)
    places = [out / "store", *([Path(named)] if named else [])] if store is None else [store]
    stores = {kept.folder.resolve(): kept for kept in map(Store, places)}.values()
    for line in (
        *_studies(),
        *_subjects([kept.folder for kept in stores]),
        *_judges(),
        *_results(out),
        *(line for kept in stores for line in _store(kept)),
    ):
        print(line)


def size_text(size: int) -> str:
    """Return a size in the unit that fits: 512 B, 3.1 MB, 4.0 GB."""
    unit, factor = next((pair for pair in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if size >= pair[1]), ("B", 1.0))
    return f"{size / factor:.1f} {unit}" if unit != "B" else f"{size} B"


def age_text(days: float) -> str:
    """Return an age: 5 min, 3 h, 12 days."""
    minutes = days * 24 * 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 48 * 60 else f"{days:.0f} days"


def _studies() -> Iterator[str]:
    import textwrap

    from astray.studies import QUESTIONS

    yield "Studies (astray run STUDY)"
    for name, question in QUESTIONS.items():
        yield f"  {name}"
        yield from textwrap.wrap(question, 78, initial_indent="    ", subsequent_indent="    ")


def _subjects(stores: Iterable[Path]) -> Iterator[str]:
    from astray.subjects import smollm2
    from astray.subjects.base_files import ORGANISMS
    from astray.subjects.registered import SUBJECT_FILE

    yield "\nSubjects (--subject NAME, or --model astray/NAME in Inspect)"
    yield f"  {', '.join(ORGANISMS)}: in the package"
    yield f"  {smollm2.NAME}: {smollm2.LICENCE}"
    yield f"    {(smollm2.source() or 'fetched at first use, from the hub or the package index').partition(':')[0]}"
    seeds: dict[str, list[int]] = defaultdict(list)
    for path in (path for store in stores for path in store.glob(f"*/{SUBJECT_FILE}")):
        if match := re.fullmatch(r"(.+)-(\d+)", path.parent.name):
            seeds[match[1]].append(int(match[2]))
    for name, numbers in sorted(seeds.items()):
        yield f"  {name}-N, N = {', '.join(map(str, sorted(numbers)))}"


def _judges() -> Iterator[str]:
    from astray.judges.distilled import judge_names, judges_folder

    names = judge_names()
    yield "\nDistilled judges (--grader astray/judge/NAME)"
    yield f"  in {judges_folder()}"  # on a line of its own, since paths are not broken
    yield from (f"  astray/judge/{name}" for name in names)
    if not names:
        yield "  none"


def _results(out: Path) -> Iterator[str]:
    from astray.report.serve import SUMMARY, results_in

    yield f"\nFinished runs in {out}"
    results = results_in(out) if out.is_dir() else ()
    for result in results:
        summary, files = (
            result.summary,
            [path for path in result.folder.rglob("*") if path.is_file() and not path.is_symlink()],
        )
        days = (time.time() - (result.folder / SUMMARY).stat().st_mtime) / 86400
        size = size_text(sum(path.stat().st_size for path in files))
        yield (
            f"  {summary.study}: {summary.subject.name}{', a quick run' if summary.quick else ''}, {size}, "
            f"{age_text(days)} old"
        )
        yield f"    {result.counts}"
    if not results:
        yield "  none"


def _store(store: "Store") -> Iterator[str]:
    from astray.artifacts.cleaning import kept_in

    yield f"\nSteps kept in {store.folder}"
    by_study: dict[tuple[str, ...], list[Kept]] = defaultdict(list)
    for step in kept_in(store):
        by_study[step.studies].append(step)
    for studies, own in sorted(by_study.items()):
        oldest = age_text(max(step.days for step in own))
        words = f"{len(own):,} steps" if len(own) > 1 else "1 step"
        yield (
            f"  {' and '.join(studies) or 'of no known study'}: {words}, "
            f"{size_text(sum(step.size for step in own))}, up to {oldest} old"
        )
    if not by_study:
        yield "  none"
    yield from (f"  {error}" for error in store.damage(content=False))


COMMAND = click.Command(
    "list",
    callback=list_all,
    params=[OUT, STORE_FOLDER],
    help="List the studies, the subjects (organisms and trained runs), the finished runs and the steps that are "
    "kept, with size and age.",
    short_help="List studies, subjects and finished runs.",
)
