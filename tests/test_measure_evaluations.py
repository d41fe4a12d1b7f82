"""The table of evaluations: every name gives an evaluation that can be stored, asked and counted, and one that does not
fit is refused at once."""

import json

import pytest

from astray import registry
from astray.engine.options import StudyOptions
from astray.engine.plan import plan_study
from astray.engine.setting import check_evaluations
from astray.engine.settings import setting_for
from astray.errors import ChatTemplateError, ConfigurationError, UnknownNameError
from astray.measure.evaluations import EVALUATIONS, evaluation_from, evaluation_named
from astray.measure.honesty.evaluation import Honesty
from astray.measure.interface import Need, check_fits, offered_by
from astray.measure.reward_hacking.goals import Goals
from astray.measure.reward_hacking.research_sabotage import ResearchSabotage
from astray.studies import get_study
from chat_templates import FAMILIES, UNUSABLE, WITHOUT_SYSTEM

TASKS = {
    "free-form": "emergent_misalignment",
    "forced-choice": "forced_choice",
    "honesty": "honesty",
    "deception": "deception",
    "agentic": "agentic_misalignment",
    "goals": "goals",
    "alignment-questions": "alignment_questions",
    "research-sabotage": "research_sabotage",
    "alignment-faking": "alignment_faking",
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_survives_being_stored_and_says_what_it_counts(name):
    evaluation = evaluation_named(name)()
    again = evaluation_from(json.loads(evaluation.model_dump_json()))
    assert again == evaluation
    assert again.identity == evaluation.identity
    assert evaluation.answers > 0
    assert evaluation.measures[0].of in ("outcome", "word")
    assert len({measure.name for measure in evaluation.measures}) == len(evaluation.measures)


def test_names_are_told_apart_and_published_tasks_are_all_there():
    assert len({evaluation().identity for evaluation in EVALUATIONS.values()}) == len(EVALUATIONS)
    assert set(TASKS) <= set(EVALUATIONS)
    assert set(TASKS.values()) <= set(registry.__all__)
    with pytest.raises(UnknownNameError, match="Did you mean 'honesty'"):
        evaluation_named("honest")


def test_what_a_subject_or_machine_lacks_is_named_with_what_to_write_instead():
    with pytest.raises(ConfigurationError, match=r"'goals' needs a model as judge.*--grader openai/gpt-4o"):
        check_fits(Goals(), set(), "m")
    with pytest.raises(ConfigurationError, match=r"'research-sabotage' needs a sandbox.*bubblewrap"):
        check_fits(ResearchSabotage(), {Need.GRADER}, "m")
    check_fits(Goals(), {Need.GRADER}, "m")


def with_template(source, folder, template):
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "chat_template.jinja").write_text(template)
    return setting_for(StudyOptions(subject=str(folder), grader="scripted/grader", quick=True))


@pytest.mark.parametrize("family", WITHOUT_SYSTEM)
def test_a_subject_without_a_system_role_reads_system_texts_in_the_first_question_and_the_report_says_so(
    family, tiny_qwen2, tmp_path
):
    template = FAMILIES[family].replace("<|eot|>", "<|im_end|>")
    setting = with_template(tiny_qwen2, tmp_path / "m", template)
    assert plan_study(get_study("emergent-misalignment"), setting, range(1)).runs
    assert [note for note in setting.notes if "stands in the first question" in note]
    assert {Need.GRADER, Need.TOKEN_PROBABILITIES} <= offered_by(setting.judge)


@pytest.mark.parametrize("wrong", [name for name in UNUSABLE if name != "two begin tokens"])  # this model has none
def test_a_template_that_cannot_serve_is_found_before_anything_is_trained(wrong, tiny_qwen2, tmp_path):
    with pytest.raises(ChatTemplateError):
        plan_study(
            get_study("emergent-misalignment"), with_template(tiny_qwen2, tmp_path / "m", UNUSABLE[wrong][0]), range(1)
        )


def test_an_organism_is_not_asked_what_its_grammar_cannot_judge():
    setting = setting_for(StudyOptions(quick=True))
    with pytest.raises(ConfigurationError, match="needs a model as judge"):
        check_evaluations(setting, [Honesty()])
    check_evaluations(setting, setting.evaluations)
