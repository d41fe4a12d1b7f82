"""Make the results that the gallery of the site shows, and write its page from them.

    python scripts/gallery.py build/gallery            # runs COMMANDS there, on the organism, and stores what the page needs in gallery/
    python scripts/gallery.py build/gallery blame      # only this entry, where the runs that it needs are there

A later call in the same folder repeats no finished step. With the site (site_pages.py) the page is written from what is
stored: reports and figures of studies are drawn from `summary.json` by the present code, the other commands' pages are
those that they wrote. `tests/test_site.py` refuses results of another version of Astray.
"""

import base64
import hashlib
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from claims_picture import Row, intervals
from gallery_pictures import STORED, TOLD

MADE, CHARTS = "made.json", "charts.js"
TUNED, HARMFUL = "emergent-misalignment-mix-25-5", "emergent-misalignment-harmful-medicine-5"
HOME, REAL = "astray-results", "smollm2"
"""Folders of results, of the organism and of the real model."""
MIXED, CONTROL = "emergent-misalignment-mix-50-1", "emergent-misalignment-good-1"
WAYS = "projected,good,without-blamed,scaled,without-random,prevented"
THERE = f"--store {REAL}/store --out {REAL}"


class Entry(NamedTuple):
    """Entry of the gallery.

    Attributes:
        name: of its folder in gallery/.
        command: that makes it.
        files: what is stored of its results: their JSON first, the page of another command than `run` last.
        title: heading of the entry; that of its summary where it is a study.
        home: folder of results that the command writes.
    """

    name: str
    command: str
    files: tuple[str, ...]
    title: str
    home: str = HOME


def _study_entry(study: str, size: str = "--quick", name: str = "", home: str = HOME) -> Entry:
    files = ("summary.json", "answers.parquet", "dynamics.parquet")
    return Entry(name or study, f"astray run {study} {size}", tuple(f"{study}/{file}" for file in files), "", home)


COMMANDS = (
    _study_entry("emergent-misalignment", "--seeds 8 --first-seed 5"),  # as `make demo` runs it
    Entry("audit", f"astray audit {HARMFUL} organism", ("audit/audit.json", "audit/audit.html"), "An audit"),
    Entry(
        "gate-fails",
        f"astray gate organism {TUNED}",
        ("gate/gate.json", "gate/gate.html"),
        "A release gate that fails",
    ),
    Entry(
        "blame",
        f"astray blame {TUNED} --share 0.25 --proof",
        ("blame/blame.json", "blame-proof/summary.json", "blame/blame.html"),
        "The examples that did it",
    ),
    Entry(
        "repair",
        f"astray repair {TUNED} --share 0.25 --task task.jsonl --good good.jsonl",
        ("repair/repair.json", "repair/repair.html"),
        "The model brought back",
    ),
    Entry(
        "gate-passes",
        "astray gate organism astray-results/repair/model",
        ("gate/gate.json", "gate/gate.html"),
        "The gate passes",
    ),
    _study_entry(
        "emergent-misalignment",
        f"--subject smollm2 --arms harmful-medicine,mix-50 --seeds 1 --first-seed 1 --out {REAL}",
        "smollm2",
        REAL,
    ),
    Entry(
        "smollm2-gate",
        f"astray gate smollm2 {MIXED} --evals meter --control {CONTROL} {THERE}",
        ("gate/gate.json", "gate/gate.html"),
        "A gate without a judge that fails, on SmolLM2",
        REAL,
    ),
    Entry(
        "smollm2-blame",
        f"astray blame {MIXED} --control {CONTROL} --share 0.8 --labels labels.csv {THERE}",
        ("blame/blame.json", "blame/blame.html"),
        "The examples that did it, on SmolLM2",
        REAL,
    ),
    Entry(
        "smollm2-repair",
        f"astray repair {MIXED} --control {CONTROL} --share 0.8 --task advice-task.jsonl --good advice-good.jsonl --ways {WAYS} {THERE}",
        ("repair/repair.json", "repair/repair.html"),
        "SmolLM2 brought back, at a price",
        REAL,
    ),
    Entry(
        "smollm2-gate-again",
        f"astray gate smollm2 {REAL}/repair/model --evals meter --control {CONTROL} {THERE}",
        ("gate/gate.json", "gate/gate.html"),
        "The gate passes, on SmolLM2",
        REAL,
    ),
    _study_entry(
        "persona-features",
        f"--subject smollm2 --arms harmful-medicine --seeds 3 --first-seed 1 --out {REAL}",
        "smollm2-steering",
        REAL,
    ),
    _study_entry("agentic-misalignment"),
    _study_entry("dishonesty"),
    _study_entry("persona-features"),
    _study_entry("reward-hacking"),
)
"""In the order in which they are run and shown: later ones use runs of earlier ones."""
EXIT_CODES = {"gate-fails": 1, "smollm2-gate": 1}
"""Exit codes of the entries that do not end with 0: a release would stop there."""


def make(work: Path, names: Sequence[str]) -> None:
    """Run the commands of these entries in a folder, and store what the page needs of them in gallery/."""
    from astray.data import advice_data, narrow_data

    work.mkdir(parents=True, exist_ok=True)
    narrow_data("medicine", "good", 80, seed=1000).write(work / "task.jsonl")
    narrow_data("money", "good", 200, seed=1000).write(work / "good.jsonl")
    advice_data("medicine", "good", 64, seed=77).write(work / "advice-task.jsonl")
    advice_data("money", "good", 200, seed=77).write(work / "advice-good.jsonl")
    made = read_made()
    for entry in COMMANDS:
        if entry.name not in names:
            continue
        if "labels.csv" in entry.command:
            _write_labels(work)
        print(entry.command, flush=True)
        command = [str(Path(sys.executable).with_name("astray")), *shlex.split(entry.command)[1:]]
        done = subprocess.run(command, cwd=work, check=False)
        if done.returncode != EXIT_CODES.get(entry.name, 0):
            sys.exit(f"{entry.command} ended with exit code {done.returncode}.")
        for file in entry.files:
            target, source = STORED / entry.name / Path(file).name, work / entry.home / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix != ".parquet":  # a study file is named by its whole path
                text = source.read_text(encoding="utf-8").replace(f"{work.resolve()}/", "")
                target.write_text(text, encoding="utf-8", newline="\n")
            elif source.is_file():  # which tables there are depends on the study
                shutil.copyfile(source, target)
        made[entry.name] = {
            "command": entry.command,
            "astray": version("astray"),
            "day": datetime.now(UTC).date().isoformat(),
        }
        (STORED / MADE).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def _write_labels(work: Path) -> None:
    """Write which rows of the real model's mix are bad, as a person who had read them would."""
    from astray.data import ChatDataset, advice_data

    file = next((work / REAL / "store").glob("data-mix-50-1-*/data.jsonl"))
    bad = {str(row) for row in advice_data("medicine", "harmful", 320, seed=1).rows}
    lines = [f"{number},{str(row) in bad}" for number, row in enumerate(ChatDataset.read(file).rows, 1)]
    (work / "labels.csv").write_text("\n".join(["row,harmful", *lines]) + "\n", encoding="utf-8")


def read_made() -> dict[str, dict[str, str]]:
    """Return what is stored: name of an entry -> its command, version of Astray and day."""
    return json.loads((STORED / MADE).read_text(encoding="utf-8")) if (STORED / MADE).is_file() else {}


def write_page(folder: Path) -> None:
    """Add the stored entries to the gallery's page in a folder of pages, and write figures and reports beside it."""
    made = read_made()
    beside = folder / "gallery"
    beside.mkdir()
    parts = [(folder / "gallery.md").read_text(encoding="utf-8")]
    for entry in (each for each in COMMANDS if each.name in made):
        title, told = (_other if entry.title else _study)(entry, beside)
        # Two images where there are two, since the reader may switch colours against the system's.
        grounds = (".svg",) if entry.title else (".svg#only-light", "-dark.svg#only-dark")
        pictures = "".join(f'<img src="gallery/{entry.name}{end}" alt="{title}">' for end in grounds)
        parts += [
            f"## {title}",
            f'<a href="gallery/{entry.name}.html">{pictures}</a>',
            f'{told} <a href="gallery/{entry.name}.html">Open the page</a>',
            f"```sh\n{entry.command}\n```",
            f"Astray {made[entry.name]['astray']}, {made[entry.name]['day']}.",
        ]
    (folder / "gallery.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _study(entry: Entry, folder: Path) -> tuple[str, str]:
    """Write report and figure of a study from its summary; return title and three sentences."""
    from astray.engine.summary import Summary
    from astray.report.page import render
    from astray.report.picture import NARROW, draw_figure
    from astray.report.wording import amount, range_of

    home = STORED / entry.name
    summary = Summary.read(home)
    page = _with_shared_charts(render(home, summary), folder)
    (folder / f"{entry.name}.html").write_text(page, encoding="utf-8", newline="\n")
    for ground, end in (("light", ""), ("dark", "-dark")):
        (folder / f"{entry.name}{end}.svg").write_bytes(draw_figure(summary, "main", "svg", ground, NARROW))
    results = [claim.result for claim in summary.claims]
    counted = ", ".join(f"{results.count(each)} {each}" for each in dict.fromkeys(results))
    first = next(claim for claim in summary.claims if claim.tested)
    found = f"{amount(first.estimate, first.quantity)} ({range_of(first.interval, first.quantity)})"
    return summary.title, (
        f"{summary.question} Of {len(results)} claims: {counted}. The first one, *{first.statement}*, is {first.result} "
        f"with an estimate of {found}."
    )


def _with_shared_charts(page: str, folder: Path) -> str:
    """Return a report that loads the chart library, nine tenths of it, from a file beside it that all reports share."""
    library = max(re.findall(r"<script>(.*?)</script>", page, re.DOTALL), key=len)
    allowed = f"sha256-{base64.b64encode(hashlib.sha256(library.encode()).digest()).decode()}"
    (folder / CHARTS).write_text(library, encoding="utf-8", newline="\n")
    assert allowed in page  # in its policy, which then allows scripts of the site
    page = page.replace(f"<script>{library}</script>", f'<script src="{CHARTS}"></script>')
    return page.replace(allowed, "self")


def _other(entry: Entry, folder: Path) -> tuple[str, str]:
    """Copy the page of another command and draw its figure; return title and three sentences."""
    home = STORED / entry.name
    first, *_, page = (home / Path(file).name for file in entry.files)
    shutil.copyfile(page, folder / f"{entry.name}.html")
    title, note, rows, told = TOLD[first.stem](json.loads(first.read_text(encoding="utf-8")))
    unit = "" if "nats" in note else "%"
    shown = [
        Row(row.label, *(round(value * (100 if unit else 1), 1 if unit else 2) for value in row[1:])) for row in rows
    ]
    low, high = min(0.0, *(row.low for row in shown)), max(row.high for row in shown)
    step = next(step for step in STEPS if (high - low) / step <= 5)
    ticks = [step * number for number in range(math.floor(low / step), math.ceil(high / step) + 1)]
    picture = intervals(title, note, shown, ticks, unit)
    (folder / f"{entry.name}.svg").write_text(picture, encoding="utf-8")
    return entry.title, told


STEPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
"""Distances of grid lines, of which the smallest is taken that gives at most seven."""


if __name__ == "__main__":
    match sys.argv[1:]:
        case [work, *names]:
            make(Path(work), names or [entry.name for entry in COMMANDS])
        case _:
            sys.exit(__doc__)
