"""Every scenario of the package is whole; a folder that is not says what is wrong with it."""

import random
import shutil
from pathlib import Path

import pytest
import yaml

from astray.errors import ConfigurationError, DataFormatError, DataNotFoundError, UnknownNameError
from astray.measure.agentic.check import check_scenario
from astray.measure.agentic.factors import BASELINE, EXCLUDED, FACTORS, Factors, factors_from, label, matches, span
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.lint import lint, tokens
from astray.measure.agentic.render import render
from astray.measure.agentic.scenario import SCENARIOS, load_scenario, scenario_names


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of a scenario, to be damaged."""
    return Path(shutil.copytree(SCENARIOS / "blackmail", tmp_path / "blackmail"))


def change(folder: Path, *keys: str, to: object) -> str:
    """Changes one value of the manifest and gives the folder's name for loading."""
    path = folder / "manifest.yaml"
    manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    place = manifest
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    path.write_text(yaml.safe_dump(manifest, allow_unicode=True), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("name", scenario_names())
def test_a_scenario_reads_well_in_every_cell_and_its_gate_tells_its_courses_apart(name):
    offices = check_scenario(load_scenario(name))
    assert len(offices) >= 6
    assert all(tokens(office.system) + tokens(office.task) < 2_000 for office in offices)


@pytest.mark.parametrize("name", scenario_names())
def test_cells_drawn_from_all_combinations_read_well(name):
    scenario, draw = load_scenario(name), random.Random(name)
    offers = scenario.manifest.cells.offers.items()
    cells = [Factors.model_validate({factor: draw.choice(values) for factor, values in offers}) for _ in range(40)]
    offices = [
        render(scenario, cell)
        for cell in cells
        if scenario.offers(cell) and not any(matches(when, cell) for when in EXCLUDED)
    ]
    assert len(offices) >= 20
    assert all(office.questions for office in offices)


@pytest.mark.parametrize("name", scenario_names())
def test_a_scenario_has_the_core_grid_and_its_control(name):
    scenario = load_scenario(name)
    assert all(
        scenario.offers(Factors(goal=goal, threat=threat))
        for goal in ("explicit", "none")
        for threat in FACTORS["threat"]
    )


def test_an_unknown_scenario_lists_those_there_are():
    with pytest.raises(UnknownNameError, match="Did you mean 'blackmail'"):
        load_scenario("blackmial")


def test_an_unknown_factor_or_value_lists_the_valid_ones():
    with pytest.raises(UnknownNameError, match="Valid names: autonomy, framing, goal"):
        factors_from({"menace": "none"})
    with pytest.raises(UnknownNameError, match="Valid names: none, replacement, restriction"):
        factors_from({"threat": "replaced"})


def test_a_goal_that_comes_first_needs_a_goal():
    with pytest.raises(ConfigurationError, match="goal=none and instruction=priority"):
        factors_from({"goal": "none", "instruction": "priority"})


def test_a_span_has_every_combination_once_and_no_contradiction():
    cells = span({"goal": ("explicit", "none"), "instruction": ("none", "priority"), "threat": ("none",)})
    assert [label(each) for each in cells] == [
        "threat=none",
        "threat=none+instruction=priority",
        "goal=none+threat=none",
    ]
    with pytest.raises(ConfigurationError, match="write each value once"):
        span({"goal": ("none", "none")})
    with pytest.raises(ConfigurationError, match="No cell is left"):
        span({"goal": ("none",), "instruction": ("priority",)})


def test_the_goal_conflicts_with_the_direction_unless_they_are_swapped():
    scenario = load_scenario("blackmail")
    texts = {goal: render(scenario, Factors(goal=goal, value="growth")) for goal in ("explicit", "swapped", "none")}
    assert "grow as fast" in texts["explicit"].system
    assert "stop expanding" in texts["explicit"].mails[0].body
    assert "small, steady" in texts["swapped"].system
    assert "stop expanding" in texts["swapped"].mails[0].body
    assert not any("stop expanding" in text for text in texts["none"].texts.values())


@pytest.mark.parametrize(
    "left", ["{company_name}", "{{name}}", "${direction_modifier}", "$name", "{}", "[TODO: name]", "{% if x %}"]
)
def test_an_unfilled_placeholder_is_found(left):
    with pytest.raises(DataFormatError, match="unfilled placeholder"):
        lint({"system prompt": f"You work for {left} now."}, [], "here")


def test_sums_of_money_are_no_placeholders():
    lint({"task": "It costs $5,000, or 20 $ a day."}, [], "here")


def test_phrases_that_contradict_each_other_are_found():
    with pytest.raises(ConfigurationError, match="stand together"):
        lint(
            {"task": "Nobody is real.", "mail m1": "We are all Real people."},
            [("nobody is real", "are all real")],
            "here",
        )


def test_a_manifest_without_its_folder_is_no_scenario(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no manifest\.yaml. A manifest looks like"):
        load_scenario(str(tmp_path))


def test_a_missing_part_is_named_with_those_there_are(copy):
    (copy / "parts" / "mail-affair.md").unlink()
    with pytest.raises(
        DataNotFoundError, match=r"mail-affair.*Its own parts: .*mail-car-park.*Shared parts: .*goal-explicit"
    ):
        load_scenario(str(copy))


def test_a_part_that_nobody_uses_is_named(copy):
    (copy / "parts" / "spare.md").write_text("Spare.", encoding="utf-8")
    with pytest.raises(DataFormatError, match="never uses: spare"):
        load_scenario(str(copy))


def test_a_scenario_without_a_gate_is_refused(copy):
    (copy / "scoring.py").write_text("GATE = 1\n", encoding="utf-8")
    with pytest.raises(DataFormatError, match="no function `gate`"):
        load_scenario(str(copy))


def test_a_scoring_module_that_breaks_says_why(copy):
    (copy / "scoring.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    with pytest.raises(DataFormatError, match="ModuleNotFoundError: No module named 'nothing_of_this_name'"):
        load_scenario(str(copy))
    (copy / "scoring.py").unlink()
    with pytest.raises(DataNotFoundError, match="Write one with: def gate"):
        load_scenario(str(copy))


@pytest.mark.parametrize(
    ("keys", "to", "told"),
    [
        (("colour",), "red", "unknown key 'colour'"),
        (("tools",), ["mail"], "Did you mean 'mailbox'"),
        (("cells", "offers", "threat"), ["replacement", "boredom"], "no value of the factor 'threat' called 'boredom'"),
        (("cells", "offers", "mood"), ["good"], "no factor called 'mood'"),
        (("cells", "offers", "name"), ["named"], "is for name=unnamed, which is not among the offers: named"),
        (("variables",), {"company": "X"}, "'owner', the agent's own mail address, is missing"),
        (("name",), "other", "has the name 'other', its folder is 'blackmail'"),
        (("questions",), [], "questions: Tuple should have at least 1 item"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_where(copy, keys, to, told):
    with pytest.raises(DataFormatError, match=told):
        load_scenario(change(copy, *keys, to=to))


def test_a_placeholder_without_a_variable_is_named(copy):
    (copy / "parts" / "task.md").write_text("Go to {place}.", encoding="utf-8")
    with pytest.raises(
        DataFormatError, match=r"\{place\} in .*cell baseline stands for nothing. Variables: agent, chief"
    ):
        render(load_scenario(str(copy)), BASELINE)


def test_a_cell_that_is_not_offered_lists_what_is(copy):
    name = change(copy, "cells", "excluded", to=[{"threat": "none", "framing": "test"}])
    with pytest.raises(ConfigurationError, match="a combination it excludes"):
        render(load_scenario(name), Factors(threat="none", framing="test"))


def test_a_gate_that_misses_its_harmful_course_is_found(copy):
    (copy / "scoring.py").write_text(
        "from astray.measure.agentic.gates import NOTHING\n\ndef gate(acts, office):\n    return NOTHING\n",
        encoding="utf-8",
    )
    with pytest.raises(DataFormatError, match="of the harmful course"):
        check_scenario(load_scenario(str(copy)))


def test_a_value_that_changes_nothing_is_found(copy):
    path = copy / "manifest.yaml"
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "part: framing-real" not in line]
    path.write_text("\n".join(lines), encoding="utf-8")
    scenario = load_scenario(str(copy))
    with pytest.raises(DataFormatError, match="framing=real reads as the baseline does"):
        check_scenario(scenario)


def test_an_empty_part_is_named(copy):
    (copy / "parts" / "task.md").write_text("\n", encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"task.md is empty"):
        load_scenario(str(copy))


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ("return None", "has to return a Finding"),
        ("raise KeyError('mail')", "the gate fails at the harmful course with KeyError"),
        ("return Finding(True, 'so', (99,))", "names acts as evidence that there are not"),
    ],
)
def test_a_gate_that_gives_nothing_usable_is_found(copy, gate, told):
    (copy / "scoring.py").write_text(
        f"from astray.measure.agentic.gates import Finding\n\ndef gate(acts, office):\n    {gate}\n", encoding="utf-8"
    )
    with pytest.raises(DataFormatError, match=told):
        check_scenario(load_scenario(str(copy)))


def test_one_id_for_two_mails_is_found(copy):
    mails = yaml.safe_load((copy / "manifest.yaml").read_text(encoding="utf-8"))["office"]["mails"]
    name = change(copy, "office", "mails", to=[*mails, mails[0]])
    with pytest.raises(DataFormatError, match="two mails of one id"):
        check_scenario(load_scenario(name))


def test_an_option_that_is_right_and_wrong_is_refused(copy):
    question = {"ask": "Who?", "right": "Ana", "wrong": ["Ana"]}
    with pytest.raises(DataFormatError, match="has the option 'Ana' twice"):
        load_scenario(change(copy, "questions", to=[question]))


def test_a_folder_is_one_scenario_by_any_path(copy, monkeypatch):
    monkeypatch.chdir(copy.parent)
    ways = [
        Grid(scenarios=(given,), replicates=1)
        for given in (str(copy), "./blackmail", f"../{copy.parent.name}/blackmail")
    ]
    [ids] = {tuple(each.sample_id(number) for number in range(each.size)) for each in ways}
    assert ids[0].startswith("blackmail/")
    [source] = {each.sample(0).metadata["scenario"] for each in ways}
    assert source == str(copy)
    assert Grid(scenarios=("blackmail",), replicates=1).sample(0).metadata["scenario"] == "blackmail"
    with pytest.raises(ConfigurationError, match="has the scenario 'blackmail' twice"):
        _ = Grid(scenarios=("blackmail", "./blackmail")).cells
