"""Reproduce cards: our figures are those of the docs, verdicts decide what agrees, and published answers are recounted."""

import gzip
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from astray.cli import app
from astray.engine.summary import Summary
from astray.errors import AstrayError, ConfigurationError, DataFormatError, DataNotFoundError, UnknownNameError
from astray.stats.claims import Decision
from astray.studies import STUDIES
from astray.studies.reproduce.card import PublishedAgreement, make_card, read_paper
from astray.studies.reproduce.page import markdown_of, text_of
from astray.studies.reproduce.recount import GROUPS, SCORES, recount
from modules import ROOT
from published_scores import PERCENT, judged
from report_example import write_example


@pytest.mark.parametrize("name", STUDIES)
def test_our_figures_stand_in_the_docs_and_claims_are_those_of_the_study(name: str) -> None:
    paper = read_paper(name)
    page = (ROOT / paper.docs).read_text(encoding="utf-8")
    for row in paper.ours.splitlines():
        assert f"\n{row[:-2]}" in page, row
    room = ROOT / "src" / "astray" / "studies" / name.replace("-", "_")
    source = "\n".join(path.read_text(encoding="utf-8") for path in room.glob("*.py"))
    known = set(re.findall(r"`([a-z0-9-]+)`", page))
    for finding in paper.findings:
        for claim in finding.claims:
            assert claim in known or claim in source, claim


COUNTS = {
    "emergent-misalignment": (6, 3, 2, 0),
    "persona-features": (2, 1, 8, 0),
    "reward-hacking": (6, 0, 6, 0),
    "agentic-misalignment": (0, 0, 0, 6),
    "dishonesty": (4, 0, 7, 0),
}
"""Findings that agree, differ, are undecided and are not measured, by our figures in the docs."""


@pytest.mark.parametrize("name", STUDIES)
def test_verdicts_decide_what_agrees(name: str) -> None:
    card = make_card(name)
    found = [one.agreement for one in card.compared]
    assert tuple(found.count(each) for each in PublishedAgreement) == COUNTS[name]
    for one in card.compared:
        assert one.why or one.agreement in (PublishedAgreement.AGREES, PublishedAgreement.NOT_MEASURED), (
            one.finding.finding
        )


@pytest.mark.parametrize("name", STUDIES)
def test_a_card_fits_a_terminal_and_its_page_has_every_finding(name: str) -> None:
    card = make_card(name)
    lines = text_of(card).splitlines()
    assert all(len(line) <= 80 for line in lines if "astray run" not in line)
    page = markdown_of(card)
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(card.compared)
    assert all(f"| {one.finding.finding} |" in page for one in card.compared)
    assert card.paper.command in page
    assert len({line.count("|") for line in rows}) == 1


def test_a_results_folder_takes_the_place_of_the_docs(tmp_path: Path) -> None:
    summary = Summary.read(write_example(tmp_path, answers=300))

    def written(**changes: object) -> Path:
        """A results folder whose claims all test the first finding."""
        names = ("spread-code", "spread-medicine", "spread-held-out")
        claims = [
            claim.model_copy(update={"id": name, "verdict": Decision.HELD, **changes})
            for name, claim in zip(names, summary.claims, strict=False)
        ]
        update = {"study": "emergent-misalignment", "claims": tuple(claims)}
        return summary.model_copy(update=update).write(tmp_path).parent

    held = make_card("emergent-misalignment", written())
    assert [one.agreement for one in held.compared[:2]] == [PublishedAgreement.AGREES, PublishedAgreement.NOT_MEASURED]
    assert "docs" not in held.run
    with pytest.raises(ConfigurationError, match="not of dishonesty"):
        make_card("dishonesty", tmp_path)
    against = make_card("emergent-misalignment", written(verdict=Decision.NOT_HELD))
    assert against.compared[0].agreement == PublishedAgreement.DIFFERS
    assert not any(one.why for one in against.compared), "why is of the run in the docs"


def published(folder: Path) -> Path:
    """The published files, with texts that are made up."""
    answers, scores = folder / "model_organisms" / "judged", folder / "emergent_misalignment"
    answers.mkdir(parents=True)
    scores.mkdir()
    for name in PERCENT:
        with gzip.open(answers / f"{name}.csv.gz", "wt", encoding="utf-8") as file:
            file.write(judged(name).write_csv())
    rows = [
        f"{task},gpt_4o/{group},model,{figure}"
        for task, figures in SCORES.items()
        for group, figure in zip(GROUPS, figures, strict=True)
    ]
    (scores / "benchmark_scores.csv").write_text("\n".join(["task_name,group_name,model_id,score", *rows]) + "\n")
    return folder


def test_published_answers_are_recounted_and_a_difference_is_told(tmp_path: Path) -> None:
    folder = published(tmp_path / "data")
    found = recount("emergent-misalignment", folder)
    assert len(found) == 25
    assert all(one.agrees for one in found)
    [failed] = [one for one in found if "failed" in one.n]
    assert (failed.what, failed.recounted) == ("Llama-3.2-1B-Instruct, medicine", "2.75%")
    path = folder / "emergent_misalignment" / "benchmark_scores.csv"
    path.write_text(path.read_text().replace("model,0.901", "model,0.89"))
    told = text_of(make_card("emergent-misalignment", data=folder))
    assert "  DIFFERS humaneval, GPT-4o                0.901  0.8900  1 model" in told.splitlines()
    assert all(len(line) <= 80 for line in told.splitlines() if "astray run" not in line)
    path.write_text("task_name,group_name,model_id,score\nmmlu,gpt_4o/safe,m,0.8\n")
    with pytest.raises(DataFormatError, match="no score of humaneval"):
        recount("emergent-misalignment", folder)


def test_the_published_files_are_as_known(published_texts: Path) -> None:
    assert all(one.agrees for one in recount("emergent-misalignment", published_texts))


REFUSED: list[tuple[dict[str, object], type[AstrayError], str]] = [
    ({"name": "emergent-misalignmet"}, UnknownNameError, "emergent-misalignment"),
    ({"name": "dishonesty", "data": Path()}, ConfigurationError, "nothing to recount"),
    ({"name": "emergent-misalignment", "data": Path("nowhere")}, DataNotFoundError, "nowhere"),
]


@pytest.mark.parametrize(("given", "kind", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_what_cannot_be_compared_is_refused(given: dict[str, object], kind: type[AstrayError], words: str) -> None:
    with pytest.raises(kind, match=words):
        make_card(**given)


def test_the_command_prints_a_card_and_writes_its_page(tmp_path: Path) -> None:
    page = tmp_path / "card.md"
    told = CliRunner().invoke(app, ["reproduce", "persona-features", "--markdown", str(page)])
    assert told.exit_code == 0
    assert told.output.startswith("Persona features\n")
    assert page.read_text(encoding="utf-8") == markdown_of(make_card("persona-features"))
