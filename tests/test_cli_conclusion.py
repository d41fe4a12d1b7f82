"""What stands on the terminal when a study has ended: claims under headings, undecided ones last, and what to do
next."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from astray.cli.conclusion import conclude
from astray.engine.next_steps import command, further_units
from astray.engine.summary import ClaimRow, ClaimStatus, Summary
from astray.stats.claims import Decision
from astray.studies import get_study
from report_example import write_example


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """The example of the report's tests: claims that held, did not hold and are undecided, in two groups."""
    return Summary.read(write_example(tmp_path_factory.mktemp("example"), answers=50))


def concluded(summary: Summary, width: int = 80) -> list[str]:
    """The lines that are printed, as into a file."""
    console = Console(file=StringIO(), width=width)
    commands = [("More training runs", "astray run emergent-misalignment --seeds 10")]
    conclude(console, summary, Path("astray-results/emergent-misalignment/report.html"), commands)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def line_of(lines: list[str], beginning: str) -> int:
    """Where the line stands that begins so."""
    return next(number for number, line in enumerate(lines) if line.strip().startswith(beginning))


def test_claims_stand_under_their_headings_within_80_columns_and_undecided_ones_last(summary: Summary) -> None:
    lines = concluded(summary)
    assert max(map(len, lines)) <= 80
    spread, conditions, undecided = (line_of(lines, heading) for heading in ("Spread ", "Conditions ", "Undecided "))
    assert (
        spread
        < line_of(lines, "held      Harmful advice on money")
        < conditions
        < line_of(lines, "not held  A mix with 10%")
        < undecided
    )
    assert undecided < line_of(lines, "A mix with 25%") < line_of(lines, "9 held, 2 not held, 3 undecided, 1 not run")
    assert lines[line_of(lines, "held      Harmful advice on money")].endswith("37.9%  32.2 to 43.6%")


def test_each_undecided_claim_says_what_would_decide_it(summary: Summary) -> None:
    lines = concluded(summary)
    assert lines[line_of(lines, "A mix with 25%") + 1 :][:2] == [
        "points.",
        "  n = 5, about 36 needed (pair of training runs)",
    ]
    assert line_of(lines, "Undecided ") < line_of(lines, "Not run ") < line_of(lines, "A trigger in the training data")
    assert (
        lines[line_of(lines, "A trigger in the training data") + 2]
        == "  It needs the arm backdoored, which was left out:"
    )


def test_it_ends_with_the_paths_and_the_commands(summary: Summary) -> None:
    lines = concluded(summary)
    assert lines[line_of(lines, "Report:")].endswith("astray-results/emergent-misalignment/report.html")
    assert lines[-2:] == ["  More training runs:", "    astray run emergent-misalignment --seeds 10"]


def test_a_wide_terminal_has_room_for_the_control(summary: Summary) -> None:
    lines = concluded(summary, width=300)
    assert lines[line_of(lines, "Spread ")].endswith("control")
    assert max(map(len, lines[: line_of(lines, "9 held")])) <= 120


def test_brackets_in_a_claim_are_no_markup(summary: Summary) -> None:
    claim = summary.claims[0].model_copy(update={"statement": "Rows of [bold]this[/bold] kind"})
    assert any(
        "Rows of [bold]this[/bold] kind" in line for line in concluded(summary.model_copy(update={"claims": (claim,)}))
    )


def test_a_summary_written_before_claims_had_groups_is_shown_under_one_heading(
    summary: Summary, tmp_path: Path
) -> None:
    stored = json.loads(summary.model_dump_json())
    for claim in stored["claims"]:
        del claim["group"], claim["region"]
    (tmp_path / "summary.json").write_text(json.dumps(stored))
    lines = concluded(Summary.read(tmp_path))
    assert (
        line_of(lines, "Claims ")
        < line_of(lines, "held      Harmful advice on medicine")
        < line_of(lines, "Undecided ")
    )
    assert "  n = 5, needed: not known (pair of training runs)" in lines


def test_many_claims_that_were_not_run_are_names_alone(summary: Summary) -> None:
    claims = tuple(claim.model_copy(update={"status": ClaimStatus.NOT_RUN}) for claim in summary.claims)
    lines = concluded(summary.model_copy(update={"claims": claims}))
    first = line_of(lines, f"Not run: {len(claims)} claims")
    names = " ".join(lines[first + 1 : lines.index("", first)])
    assert [name.strip(",") for name in names.split()] == [claim.id for claim in claims]
    assert max(map(len, lines)) <= 80


def next_commands(summary: Summary, study: str = "emergent-misalignment", **options: object) -> dict[str, str]:
    """What the study proposes, by purpose."""
    chosen = get_study(study)
    return {
        step.purpose.split(";")[0]: command(study, step.options)
        for step in chosen.next_steps(chosen.options(**options), summary)
    }


def test_more_runs_are_proposed_with_the_options_that_were_given(summary: Summary) -> None:
    told = next_commands(summary, first_seed=5, arms="harmful-medicine,inoculated", seeds=5)
    assert (
        told["More training runs"]
        == "astray run emergent-misalignment --arms harmful-medicine,inoculated --first-seed 5 --seeds 12"
    )
    assert told["The same on a model of your own"] == "astray run emergent-misalignment --subject FOLDER --grader MODEL"


def test_twice_as_many_runs_are_proposed_where_nothing_is_undecided(summary: Summary) -> None:
    decided = tuple(claim for claim in summary.claims if claim.verdict != Decision.UNDECIDED)
    assert next_commands(summary.model_copy(update={"claims": decided}))["More training runs"].endswith("--seeds 10")


def test_a_claim_over_answers_asks_for_no_more_training_runs(summary: Summary) -> None:
    answers = summary.claims[7].model_copy(update={"n": 480, "unit": "answer"})
    assert further_units([answers], 5)[0] > 10
    assert next_commands(summary.model_copy(update={"claims": (answers,)}))["More training runs"].endswith("--seeds 10")


@pytest.mark.parametrize(
    ("needs", "proposed"),
    [
        ((), (10, "")),
        ((8, 12), (12, "")),
        ((12, 90), (12, "; an undecided claim needs about 90")),
        ((90, 340), (90, "; an undecided claim needs about 340")),
        ((340, 400), (100, "; 2 undecided claims need up to about 400")),
    ],
)
def test_what_is_proposed_decides_something_and_what_it_does_not_is_told(
    summary: Summary, needs: tuple[int, ...], proposed: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClaimRow, "n_to_decide", property(lambda claim: needs[int(claim.id)]))
    claims = [summary.claims[0].model_copy(update={"id": str(number), "n": 5}) for number in range(len(needs))]
    assert further_units(claims, 5, 100) == proposed


def test_arms_that_were_left_out_are_proposed_first(summary: Summary) -> None:
    claims = (summary.claims[0].model_copy(update={"status": ClaimStatus.NOT_RUN}), *summary.claims[1:])
    told = next_commands(summary.model_copy(update={"claims": claims}), arms="good", seeds=5)
    assert next(iter(told.items())) == ("The arms that were left out", "astray run emergent-misalignment")


def test_a_quick_run_is_followed_by_the_whole_one(summary: Summary) -> None:
    told = next_commands(summary, quick=True, seeds=1, size=96)
    assert told["All seeds and all answers"] == "astray run emergent-misalignment --size 96"
    assert "More training runs" not in told


def test_a_real_model_is_followed_by_the_error_of_its_judge(summary: Summary) -> None:
    real = summary.model_copy(update={"subject": summary.subject.model_copy(update={"is_organism": False})})
    given = {"subject": "my model", "grader": "openai/gpt-4o"}
    command = next_commands(real, **given)["The judge's error, from answers that you labelled"]
    assert command == "astray run emergent-misalignment --subject 'my model' --grader openai/gpt-4o --labels FILE"
    assert list(next_commands(real, **given, labels="seen.csv")) == ["More training runs"]


def test_acting_models_get_more_samples_or_a_real_model(summary: Summary) -> None:
    acting = summary.model_copy(update={"claims": (), "seeds": (), "sections": ("records",)})
    told = next_commands(acting, "agentic-misalignment")
    assert told["More samples a cell"] == "astray run agentic-misalignment --samples 8"
    assert told["The same with a model of your own"] == "astray run agentic-misalignment --subject MODEL --grader MODEL"
    real = next_commands(acting, "agentic-misalignment", subject="openai/gpt-4o", grader="openai/gpt-4o", quick=True)
    assert real["All samples"] == "astray run agentic-misalignment --subject openai/gpt-4o --grader openai/gpt-4o"
    assert real["The judges' error, from records that you labelled"].endswith("--labels FOLDER")


def test_folder_and_store_are_part_of_the_command() -> None:
    typed = command("dishonesty", {"quick": True, "out": Path("my results"), "store": "s3://kept"})
    assert typed == "astray run dishonesty --quick --out 'my results' --store s3://kept"
