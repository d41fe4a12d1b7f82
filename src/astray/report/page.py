"""Write the report of a study: one HTML file that opens from disk, needs no network and holds its figures and answers.

The page is put together from the templates beside this module. A content security policy allows exactly the scripts
written here, so nothing that stands in an answer can run, and forbids every request.

Left to others: the numbers (astray.studies), the charts (figures.py, dynamics.py, exhibits.py), the answers
(transcripts.py), the wording of numbers (wording.py).
"""

import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from astray.artifacts.user_cache import user_cache
from astray.engine.summary import ORGANISM_NOTE, ClaimStatus, RateRow, Summary
from astray.errors import StoreError
from astray.outcomes import Outcome
from astray.report import dynamics, exhibits, figures, wording
from astray.report.origin import ResultOrigin
from astray.report.packed import packed
from astray.report.provenance import provenance
from astray.report.records import read_records
from astray.report.strips import interval_strips
from astray.report.transcripts import read_table, read_transcripts
from astray.stats.claims import Decision

SCRIPTS = ("unpack.js", "charts.js", "answers.js", "records.js", "tables.js", "page.js")
"""Scripts of the page, in the order in which they use each other."""

DYNAMICS_SCHEMA: dict[str, pl.DataType] = {
    "arm": pl.String(),
    "seed": pl.Int64(),
    "step": pl.Int64(),  # optimiser step of the training run
    "measure": pl.String(),  # what was measured, in words
    "value": pl.Float64(),
}
"""Column names and types of `dynamics.parquet`."""


@dataclass(frozen=True)
class MeasureTable:
    """Text alternative of a line chart: the value of every run at its last step.

    Attributes:
        chart: name of the chart.
        measure: what is measured.
        rows: arm, seed, last step and value there.
    """

    chart: str
    measure: str
    rows: tuple[tuple[str, int, int, float | None], ...]


def write_report(folder: Path) -> Path:
    """Write `report.html` into a results folder and return its path.

    Args:
        folder: holds `summary.json`, and where the study has them `answers.parquet` and `dynamics.parquet`.

    Raises:
        StoreError: the folder has no `summary.json`, or the page cannot be written.
        DataFormatError: one of the files is not in the form it should have.
    """
    folder = Path(folder)
    html = render(folder, Summary.read(folder))
    target = folder / "report.html"
    try:
        # The same bytes on every platform.
        target.write_text(html, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StoreError(
            f"The report cannot be written to {target}: {error}. Free some space, or make the folder writable."
        ) from error
    return target


def render(folder: Path, summary: Summary) -> str:
    """Return the page as text, from a summary and the tables of the folder.

    Raises:
        DataFormatError: `answers.parquet` or `dynamics.parquet` is not in the form it should have.
    """
    measured = _read_dynamics(folder)
    order = list(dynamics.first_arms(summary))
    if measured is not None:
        order = list(dict.fromkeys([*order, *measured["arm"].unique(maintain_order=True)]))
    controls = {arm.name for arm in summary.arms if arm.control}
    rates = figures.rate_figures(summary) if "rates" in summary.sections else {"datasets": {}, "charts": {}}
    lines = (
        dynamics.dynamics_figures(measured, order, controls) if measured is not None else {"datasets": {}, "charts": {}}
    )
    shown = exhibits.exhibit_figures(summary.exhibits)
    scripts = [_inline_script(text) for text in _scripts()]
    environment = _environment()
    groups = summary.claims_by_group()
    choices = figures.selections(summary)
    pairs = [(choice.evaluation, choice.group) for choice in choices]
    return environment.get_template("report.html").render(
        summary=summary,
        results=_results(summary),
        finding=next((claim for claim in summary.claims if claim.tested), None),
        notes=[note for note in summary.notes if note != ORGANISM_NOTE or not summary.subject.is_organism],
        groups={
            heading: [
                [claim for claim in claims if (claim.status is ClaimStatus.DECIDED) is decided]
                for decided in (True, False)
            ]
            for heading, claims in groups.items()
        },
        strips={name: strip for claims in groups.values() for name, strip in interval_strips(claims).items()},
        rates_of={claim.id: figures.rates_of(claim, pairs) for claim in summary.claims},
        provenance=provenance(folder, summary),
        judges={judge.identity: judge for judge in summary.judges},
        controls=controls,
        selections=choices,
        rate_rows=_rate_rows(summary),
        charts={part: rates[part] | shown[part] | lines[part] for part in ("datasets", "charts")},
        chart_names=exhibits.chart_names,
        panels=exhibits.panels,
        range_text=exhibits.range_text,
        table_cell=exhibits.table_cell,
        measures=_last_values(measured) if measured is not None else (),
        series=_series(order, measured),
        transcripts=read_transcripts(folder),
        records=read_records(folder),
        outcomes=tuple(Outcome),
        style=Markup(_template_text("report.css")),
        scripts=scripts,
        policy=_content_policy(scripts),
    )


def page_of(template: str, origin: ResultOrigin, *, scripted: bool = False, **content: object) -> str:
    """Return a page made from one of the templates beside this module.

    Args:
        template: its file name.
        origin: of what it shows.
        scripted: with all of the page's own scripts (colours, browser of answers), and not with that of the tables
            alone; without the chart library.
        content: what it shows.
    """
    scripts = [_inline_script(_own_scripts() if scripted else _template_text("tables.js"))]
    style = Markup(_template_text("report.css"))
    return (
        _environment()
        .get_template(template)
        .render(origin=origin, style=style, policy=_content_policy(scripts), scripts=scripts, **content)
    )


@contextmanager
def written(subject: str, folder: Path | str, texts: Mapping[str, str]) -> Iterator[Path]:
    """Write texts into a folder by their names, then whatever the context writes there; yield the folder.

    Args:
        subject: what is written, with which the error begins: "The audit".
        folder: made where it is not there.
        texts: name of the file -> its text.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        yield folder
    except OSError as error:
        raise StoreError(
            f"{subject} cannot be written to {folder}: {error}. Free space or name another folder with --out."
        ) from error


def json_text(content: object, indent: int | None = 1) -> str:
    """Return what a program reads beside a page; a number that is none would make it no JSON."""
    return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def _results(summary: Summary) -> list[tuple[str, int]]:
    """Count how the claims came out: each verdict, and what was not run or not estimable where there is any."""
    counts = Counter(claim.result for claim in summary.claims)
    missing = [status for status in (ClaimStatus.NOT_ESTIMABLE, ClaimStatus.NOT_RUN) if counts[status]]
    return [(result.value, counts[result]) for result in (*Decision, *missing)]


def _rate_rows(summary: Summary) -> list[tuple[str, RateRow, bool]]:
    """Return the rows of the table of rates: selection key, rate, and whether it counts one format beside others."""
    # By identity: two rows with equal numbers are still two rows.
    headline = {id(row) for row in figures.headline_rows(summary)}
    keys = {(choice.evaluation, choice.group): choice.key for choice in figures.selections(summary)}
    return [(keys[row.evaluation, row.group], row, id(row) not in headline) for row in summary.rates]


def _read_dynamics(folder: Path) -> pl.DataFrame | None:
    path = folder / "dynamics.parquet"
    if not path.is_file():
        return None
    table = read_table(path, DYNAMICS_SCHEMA)
    return table if table.height else None


def _series(order: Sequence[str], measured: pl.DataFrame | None) -> list[tuple[str, str, bool]]:
    """Return the arms of the line charts: name, colour, and whether it is shown at first."""
    drawn = set() if measured is None else set(measured["arm"])
    arms = [(arm, dynamics.series_colour(index)) for index, arm in enumerate(order) if arm in drawn]
    # As many as have colours of their own; a reader switches others on.
    return [(arm, colour, number < len(dynamics.SERIES_COLOURS)) for number, (arm, colour) in enumerate(arms)]


def _last_values(measured: pl.DataFrame) -> tuple[MeasureTable, ...]:
    tables = []
    for number, measure in enumerate(dynamics.measures(measured)):
        rows = measured.filter(pl.col("measure") == measure)
        last = (
            rows.sort("step")
            .group_by("arm", "seed", maintain_order=True)
            .last()
            .sort("arm", "seed")
            .select("arm", "seed", "step", "value")
        )
        tables.append(MeasureTable(f"dynamics-{number}", measure, tuple(last.rows())))
    return tuple(tables)


@cache
def _environment() -> Environment:
    # Autoescape is what keeps answers of a model, which are untrusted, from becoming markup.
    environment = Environment(
        loader=PackageLoader("astray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, Any] = {
        "percent": wording.percent,
        "interval": wording.interval_text,
        "amount": wording.amount,
        "range": wording.range_of,
        "tick": wording.tick,
        "p_value": wording.p_value,
        "count": wording.count,
        "decimal": wording.decimal,
        "signed": wording.signed,
        "level": wording.level,
        "number": exhibits.number_text,
        "marked": exhibits.marked,
        "packed": packed,
    }
    environment.filters.update(filters)
    return environment


def _template_text(name: str) -> str:
    return (files("astray.report") / "templates" / name).read_text(encoding="utf-8")


def _scripts() -> tuple[str, str]:
    """Return the chart library, and the page's own scripts as one."""
    return _chart_library(), _own_scripts()


def _own_scripts() -> str:
    own = "\n".join(_template_text(name) for name in SCRIPTS)
    return f'"use strict";\n{own}'


@cache
def _chart_library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script; kept in the user's cache, since making it takes a second."""
    cached = user_cache() / f"charts-{version('vl-convert-python')}.js"
    with suppress(OSError):
        if text := cached.read_bytes().decode():
            return text
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    new = cached.with_name(f"{cached.name}.{os.getpid()}")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(bundle.encode())
        new.replace(cached)
    except OSError:  # where the cache cannot be written, each process makes its own
        with suppress(OSError):
            new.unlink(missing_ok=True)
    return bundle


def _inline_script(text: str) -> Markup:
    """Return a script safe between script tags: nothing in it ends the tag, and a browser hashes the same bytes."""
    # Browsers normalise CRLF before they hash, and after "<!--" the HTML parser may pass over an end tag.
    return Markup(text.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--"))


def _content_policy(scripts: list[Markup]) -> str:
    # Styles may stand inline without a hash: under this policy they can neither run nor fetch anything.
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
        "form-action 'none'"
    )
