"""The page says everything that the summary holds, loads nothing, runs nothing of what stands in an answer, and tells
what is missing."""

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import vl_convert

from astray.engine.summary import Summary
from astray.errors import DataFormatError, StoreError
from astray.report import page as pages
from astray.report import write_report
from astray.report.figures import selections
from astray.stats.claims import Decision
from report_example import write_example


def unpacked(text: str) -> Any:
    """What `templates/unpack.js` makes of it."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">{{ 7*7 }}"


class Page(HTMLParser):
    """A page taken apart: its tags, its text as a reader gets it, and the content of its scripts and rows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.inside = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            attributes, content = self.scripts[-1]
            self.scripts[-1] = (attributes, content + data)
        elif self.inside != "style":
            self.text += data + " "

    def policy(self) -> str:
        (policy,) = [
            attributes["content"] for tag, attributes in self.tags if tag == "meta" and "http-equiv" in attributes
        ]
        assert policy is not None
        return policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_example(tmp_path_factory.mktemp("results"))
    assert write_report(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def summary(folder: Path) -> Summary:
    return Summary.read(folder)


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(folder / "report.html")


def report_of(folder: Path, summary: Summary) -> Page:
    summary.write(folder)
    return Page(write_report(folder))


def test_the_page_points_nowhere_outside_itself(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)


def test_only_the_scripts_of_the_page_may_run_and_nothing_may_be_fetched(page: Page) -> None:
    code = [content for attributes, content in page.scripts if "type" not in attributes]
    assert len(code) == 2
    allowed = {f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'" for content in code}
    directives = dict(part.split(maxsplit=1) for part in page.policy().split(";"))
    assert set(directives["script-src"].split()) == allowed
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data: blob:"


def test_every_claim_stands_before_the_rates_with_its_rule_and_source(page: Page, summary: Summary) -> None:
    claims = page.text[
        page.text.index("What the study set out to show") : page.text.index("Misaligned answers among the coherent")
    ]
    for claim in summary.claims:
        assert claim.statement in claims
        assert claim.expected in claims
        if claim.published:
            assert claim.published.text in claims
            assert claim.published.source in claims
    assert "43.5% 38.1 to 48.9%" in claims
    assert "n = 5, unit: pair of training runs" in claims
    assert "p < 0.001, after Holm’s correction < 0.001" in claims
    assert "no estimate" in claims
    assert "9 held 2 not held 3 undecided 1 not run" in claims
    shown = [
        claims.index(text)
        for text in (
            "Spread",
            summary.claims[0].statement,
            "Conditions",
            "ten times the learning rate",
            "25% harmful data",
        )
    ]
    assert shown == sorted(shown), "headings above their claims, the undecided ones last"


def test_the_first_screen_says_what_was_found_for_which_model_and_how_surely(page: Page, summary: Summary) -> None:
    head = page.text[: page.text.index("What the study set out to show")]
    assert (
        "Held for organism: Harmful advice on medicine spreads to other domains . Estimate 43.5% , 95% interval 38.1 to "
        "48.9%; n = 5, unit: pair of training runs; p < 0.001 over all claims."
    ) in head
    assert "9 held, 2 not held, 3 undecided, 1 not run." in head
    untested = [claim for claim in summary.claims if not claim.tested]
    assert untested[0].statement not in head


def test_what_is_undecided_is_folded_with_what_would_decide_it(page: Page, summary: Summary) -> None:
    opened = [tag for tag, attributes in page.tags if tag == "details" and attributes.get("class") == "folded"]
    assert len(opened) == 1, "one fold for the group that has undecided claims"
    folded = page.text[page.text.index("4 not decided") :]
    for claim in summary.claims:
        if claim.verdict is Decision.UNDECIDED:
            assert claim.statement in folded
            assert (f"about {claim.n_to_decide:,} (unit" if claim.n_to_decide else claim.note) in folded


def test_claims_link_to_their_rates_and_these_come_first(page: Page, summary: Summary) -> None:
    links = [
        attributes["href"]
        for tag, attributes in page.tags
        if tag == "a" and "#rates?" in (attributes.get("href") or "")
    ]
    assert set(links) == {
        "#rates?evaluation=freeform&group=other+domains",
        "#rates?evaluation=freeform&group=trained+domain",
    }
    options = [attributes for tag, attributes in page.tags if tag == "option" and "data-group" in attributes]
    assert options[0]["data-group"] == "other domains"
    elsewhere = [row.model_copy(update={"evaluation": "aside"}) for row in summary.rates]
    first = selections(summary.model_copy(update={"rates": (*elsewhere, *summary.rates)}))[0]
    assert (first.evaluation, first.group, first.claims) == ("freeform", "other domains", 12)


def test_the_page_tells_how_to_cite_and_to_reproduce_it(page: Page, folder: Path) -> None:
    digest = hashlib.sha256((folder / "summary.json").read_bytes()).hexdigest()
    assert page.text.count(digest[:12]) >= 4
    for words in (
        digest,
        hashlib.sha256((folder / "answers.parquet").read_bytes()).hexdigest(),
        "astray run emergent_misalignment --seeds 0,1,2,3,4 --arms harmful-medicine,good-medicine",
        "It ran with Python 3.11.9, torch 2.13.0.",
        "of 2026-11-30",
        "year = {2026}",
    ):
        assert words in page.text


def test_every_rate_stands_in_the_table_with_all_that_is_needed_to_trust_it(page: Page, summary: Summary) -> None:
    assert sum(1 for tag, attributes in page.tags if tag == "tr" and "data-key" in attributes) == len(summary.rates)
    row = next(
        row for row in summary.rates if row.arm == "high-learning-rate" and row.group == "all" and row.format == "all"
    )
    assert row.rate is not None
    assert row.interval is not None
    counts = " ".join(f"{number:,}" for number in row.outcomes.values())
    assert f"{row.rate * 100:.1f}% {row.numerator} / {row.denominator}" in page.text
    assert counts in page.text
    assert (
        f"{row.interval.low * 100:.1f} to {row.interval.high * 100:.1f}% 95%, t over seeds; unit: training run"
        in page.text
    )
    assert "clustered t over questions" in page.text


def test_the_head_names_the_subject_the_judges_and_what_the_organism_proves(page: Page) -> None:
    assert "This is a model organism." in page.text
    assert "They prove nothing about a large model" in page.text
    assert "validated on 2,000 labelled answers (gold.csv): sensitivity 100%, specificity 99.8%" in page.text
    assert "openai/gpt-4o with rubric betley unvalidated judge" in page.text
    assert "1,640,448 parameters" in page.text
    assert "Quick run." not in page.text


def test_a_real_subject_has_no_notice_and_a_quick_run_has_one(tmp_path: Path, summary: Summary) -> None:
    subject = summary.subject.model_copy(update={"is_organism": False})
    page = report_of(tmp_path, summary.model_copy(update={"subject": subject, "quick": True}))
    assert "This is a model organism." not in page.text
    assert "Quick run." in page.text


def test_hostile_text_is_text(tmp_path: Path, summary: Summary) -> None:
    page = Page(write_report(write_example(tmp_path, answers=200, hostile=HOSTILE)))
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert len(page.scripts) == 4
    assert "{{ 7*7 }}" in page.text
    assert "49" not in page.text.split("{{ 7*7 }}")[0][-3:]
    (data,) = [content for attributes, content in page.scripts if attributes.get("id") == "chart-data"]
    assert any(row["arm"] == "mix-10" + HOSTILE for row in unpacked(data)["datasets"]["headline"])


def test_a_summary_alone_makes_a_page_that_says_what_is_missing(tmp_path: Path, summary: Summary) -> None:
    bare = summary.model_copy(update={"claims": (), "rates": (), "notes": (), "arms": (), "judges": ()})
    page = report_of(tmp_path, bare)
    for words in (
        "This study declared no claims.",
        "The summary holds no rates.",
        "Nothing was measured during training",
        "No answers were kept",
        "none kept",
        "no judge named",
    ):
        assert words in page.text


def test_a_rate_without_coherent_answers_is_said_to_be_none(tmp_path: Path, summary: Summary) -> None:
    nothing = {
        "numerator": 0,
        "denominator": 0,
        "rate": None,
        "interval": None,
        "interval_questions": None,
        "coherence": 0.0,
    }
    failed = summary.rates[0].model_copy(update={**nothing, "seed_rates": {"0": None}, "worst_case": (0.0, 1.0)})
    page = report_of(tmp_path, summary.model_copy(update={"rates": (failed,), "seeds": (0,)}))
    assert "0 / 0 none: no coherent answer" in page.text
    assert "0% to 100%" in page.text


def test_a_sample_of_the_answers_is_called_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, summary: Summary
) -> None:
    monkeypatch.setattr("astray.report.transcripts.PAGE_LIMIT", 1000)
    pl.read_parquet(folder / "answers.parquet").write_parquet(tmp_path / "answers.parquet")
    page = report_of(tmp_path, summary)
    assert re.search(r"Showing (9\d\d|1,000) of 3,000\. .* The whole table is answers\.parquet", page.text)


def test_measures_that_are_not_numbers_are_left_blank(tmp_path: Path, summary: Summary) -> None:
    schema = {"arm": pl.String(), "seed": pl.Int64(), "step": pl.Int64(), "measure": pl.String(), "value": pl.Float64()}
    rows = {
        "arm": ["a", "a"],
        "seed": [0, 0],
        "step": [0, 1],
        "measure": ["loss", "loss"],
        "value": [1.0, float("nan")],
    }
    pl.DataFrame(rows, schema=schema).write_parquet(tmp_path / "dynamics.parquet")
    page = report_of(tmp_path, summary)
    (data,) = [content for attributes, content in page.scripts if attributes.get("id") == "chart-data"]
    assert [row["value"] for row in unpacked(data)["datasets"]["dynamics-0"]] == [1.0, None]


def test_a_folder_without_a_summary_is_told_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=rf"no summary\.json in {tmp_path}.*astray run emergent-misalignment"):
        write_report(tmp_path)


@pytest.mark.parametrize("content", ["{", '{"study": "x"}', '{"schema_version": 2}'])
def test_a_damaged_summary_is_told_with_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(DataFormatError, match=rf"{tmp_path}/summary\.json is not a summary.*\n(.*\n)*.*astray run"):
        write_report(tmp_path)


def test_a_folder_that_takes_no_page_is_told(tmp_path: Path, summary: Summary) -> None:
    summary.write(tmp_path)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        write_report(tmp_path)


def test_the_same_folder_gives_the_same_page(folder: Path, summary: Summary) -> None:
    before = (folder / "report.html").read_bytes()
    assert write_report(folder).read_bytes() == before


def test_the_chart_library_is_made_once_a_user_and_anew_where_it_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda text: made.append(text) or "vega")
    monkeypatch.setenv("ASTRAY_CACHE", str(tmp_path / "cache"))
    assert [pages._chart_library.__wrapped__() for _ in range(2)] == ["vega", "vega"]
    assert len(made) == 1
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".js"]
    (tmp_path / "file").touch()
    monkeypatch.setenv("ASTRAY_CACHE", str(tmp_path / "file"))
    assert pages._chart_library.__wrapped__() == "vega"
    assert len(made) == 2
