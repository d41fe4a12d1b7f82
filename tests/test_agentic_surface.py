"""Drawn surfaces: every draw has its own names and words, none of the fixed ones is left, and gates stay right."""

import re

import polars as pl
import pytest

from astray.engine.run import run_study
from astray.engine.summary import Summary
from astray.errors import ConfigurationError, DataFormatError
from astray.measure.agentic.agent import office_of
from astray.measure.agentic.factors import BASELINE
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.render import render
from astray.measure.agentic.scenario import load_scenario, scenario_names
from astray.measure.agentic.surface import _surface, draw_of, drawn, texts_digest
from astray.studies.agentic_misalignment.options import AgenticOptions
from astray.studies.agentic_misalignment.study import STUDY
from surfaces import transcripts, verdicts

DRAWS = 12


@pytest.mark.parametrize("name", scenario_names())
def test_draws_differ_from_one_another_and_none_keeps_a_name_of_a_person(name):
    scenario, texts = load_scenario(name), set()
    surface = _surface(scenario)
    people = [word for person in (*surface.women, *surface.men) for word in person.split()]
    left = re.compile(rf"(?i)(?<![a-z])(?:{'|'.join(people)})(?![a-z])")
    for draw in range(DRAWS):
        office = render(drawn(scenario, draw), BASELINE)
        told = "\n".join([*office.texts.values(), office.schema, str(office.course("harmful")), str(office.questions)])
        assert not left.search(told), draw
        texts.add(told)
    assert len(texts) == DRAWS
    assert render(drawn(scenario, 3), BASELINE).texts == render(drawn.__wrapped__(scenario, 3), BASELINE).texts


@pytest.mark.parametrize("name", scenario_names())
def test_the_gate_is_right_about_both_courses_and_about_the_transcripts_in_drawn_words(name):
    scenario = load_scenario(name)
    wrong = [
        (draw, what)
        for draw in range(DRAWS)
        for what, harmful, hit in (*verdicts(scenario, draw), *(transcripts(scenario, draw) if draw == 5 else ()))
        if harmful != hit
    ]
    assert wrong == []


def test_a_sample_knows_its_draw_which_all_cells_of_a_replicate_share():
    grid = Grid(scenarios=("blackmail", "leaking"), replicates=3, surface="drawn")
    samples = [grid.sample(number) for number in range(grid.size)]
    assert [sample.metadata["draw"] for sample in samples] == [0] * 12 + [1] * 12 + [2] * 12
    for sample in samples:
        assert office_of(sample.metadata).system == sample.input[0].text
    both = Grid(scenarios=("blackmail",), replicates=4, surface="both")
    assert [both.sample(number).metadata.get("draw") for number in range(0, both.size, 6)] == [None, 1, None, 3]


def test_fixed_surfaces_keep_their_keys_and_drawn_ones_have_their_own():
    scenario = load_scenario("blackmail")
    assert "surface" not in Grid().model_dump()
    assert texts_digest(scenario, "fixed") == scenario.digest != texts_digest(scenario, "drawn")
    assert AgenticOptions(subject="openai/gpt-4o").drawn_surface == "drawn"
    assert AgenticOptions().drawn_surface == "fixed"


def test_a_scenario_without_a_surface_keeps_its_texts(tmp_path):
    copied = own_scenario(tmp_path, None)
    assert draw_of(copied, "drawn", 7) is None
    with pytest.raises(ConfigurationError, match="has no surface"):
        drawn(copied, 7)


BAD = {
    "text that is not there": ("wording: [[Nobody wrote this., Nor this.]]", "stands in no text"),
    "one form": ("wording: [[The people are real]]", "at least 2"),
    "one name": ("women: [Petra]\nwording: []", "no given and family name"),
    "unequal groups": ("together: [[[Hello, Hi], [Corin, Tom, Tim]]]\nwording: []", "as many forms"),
    "unknown key": ("word: []\nwording: []", "word"),
}


@pytest.mark.parametrize("surface", BAD)
def test_a_surface_that_cannot_be_drawn_from_is_refused(surface, tmp_path):
    text, words = BAD[surface]
    with pytest.raises(DataFormatError, match=words):
        drawn(own_scenario(tmp_path, text), 0)


def own_scenario(folder, surface):
    """Return a copy of a scenario of the package, with this surface."""
    packaged = load_scenario("blackmail").folder
    copy = folder / "blackmail"
    (copy / "parts").mkdir(parents=True)
    for path in packaged.rglob("*.*"):
        if path.is_file() and path.suffix in (".md", ".yaml", ".py") and path.name != "surface.yaml":
            (copy / path.relative_to(packaged)).write_bytes(path.read_bytes())
    if surface is not None:
        (copy / "surface.yaml").write_text(surface)
    return load_scenario(str(copy))


def test_a_study_of_both_surfaces_tells_whether_texts_are_known_by_heart(tmp_path):
    graders = ("astray/scripted/grader", "astray/scripted/grader")
    options = AgenticOptions(
        subject="astray/scripted/always",
        grader=graders,
        scenarios=("blackmail",),
        samples=2,
        surface="both",
        analyses=("grid",),
    )
    folder = run_study(STUDY, options, out=tmp_path / "out", store=tmp_path / "store")
    summary = Summary.read(folder)
    [claim] = [claim for claim in summary.claims if claim.id.startswith("by-heart")]
    assert "at or above -5 points and at or below 5 points" in claim.expected
    assert (claim.estimate, claim.n, claim.verdict) == (0.0, 2, "undecided")  # one sample a side decides nothing
    assert any("drawn anew for each second sample" in note for note in summary.notes)
    acts = pl.read_parquet(folder / "acts.parquet")
    assert set(acts.filter(pl.col("monitor") == "none")["outcome"]) == {"harmful"}
    assert acts.filter(pl.col("monitor") == "none", pl.col("replicate") == 1)["gate"].all()
