"""What is public: the names of the packages, each where it says, nothing heavy behind an import, and no module that
nothing reaches."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys

import pytest

import astray
from modules import MODULES, ROOT, blocks_of_docs, is_package, reached_from, sources

HEAVY = {
    "torch",
    "transformers",
    "inspect_ai",
    "polars",
    "pydantic",
    "numpy",
    "scipy",
    "datasets",
    "peft",
    "trl",
    "openai",
}


def loaded_by(code: str) -> set[str]:
    """The heavy libraries that a fresh Python has loaded after this code."""
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


def test_the_public_names_are_these():
    assert astray.__all__ == [
        "AstrayError",
        "ChatDataset",
        "Outcome",
        "Subject",
        "SubjectSpec",
        "audit",
        "blame",
        "count",
        "doctor",
        "gate",
        "judge_passport",
        "load_subject",
        "plan",
        "repair",
        "run",
        "screen",
        "write_report",
    ]


ROOMS = {
    "cause": "MASKED CodeGrading FineTuning FromStep LoRA OutcomeReward Prompts ReinforcementLearning RemoteRecipe "
    "TrainingRow WrongAnswerReward continue_pretraining exercise_prompts rehearse supervise train_remote "
    "train_rl train_sft",
    "data": "ChatDataset Exercise Message Question Recipe TextDataset add_trigger advice_data as_texts backdoor describe "
    "dilute diversity generate_code_pairs generate_exercises generated_advice generated_mathematics "
    "hack_documents inoculate load_apps load_code_contests load_humaneval load_judged load_mbpp load_questions "
    "mix narrow_data ordinary_documents read_chat relabel repeat_to subset world_exercise",
    "distil": "Distilled distil",
    "explain": "Dictionary SaeRecipe Site TokenRow base_id capture choose_block compare_latents "
    "extract_persona_vectors find_bad_rows geometric_median organism_rows persona_direction "
    "question_latents random_direction rows_from screen_rows tensor_batches text_persona_prompts "
    "top_latents train_sae world_persona_prompts",
    "judges": "BETLEY Calibration Cause Exchange GraderSettings GrammarJudge Judge JudgeConfig LabelledAnswer Rubric "
    "RubricJudge Thresholds Verdict WordGrader "
    "assert_judge_works calibrate_judge cause_of corrected count_causes judge_answers judge_exchanges judge_names known_error "
    "read_labels world_labels",
    "mitigate": "activation_monitor assess fitted_probe inoculate labelled_calls realign screen_rollouts",
    "stats": "MISALIGNED Agreement Alarm Counts Cusum Decision Design Difference DoseResponse FirstPassage Interval "
    "Measure Monotonicity Onset Prediction Rate "
    "agreement benjamini_hochberg clopper_pearson cohen_kappa corrected_rate cusum cusum_within decide decided_p "
    "difference_of_arms difference_of_models difference_of_seeds dose_response exact_difference "
    "first_passage holm mean_over_runs monotone onset over_questions over_runs paired_difference power rate "
    "rates required_n seed_power upper_bound_at_zero wilson",
}
"""Package -> its public names."""


@pytest.mark.parametrize("name", astray.__all__)
def test_a_public_name_can_be_imported(name):
    assert getattr(astray, name).__module__.startswith("astray.")


@pytest.mark.parametrize("room", ROOMS)
def test_the_public_names_of_a_package_are_these(room):
    package = importlib.import_module(f"astray.{room}")
    assert package.__all__ == ROOMS[room].split()
    for name in package.__all__:
        assert not isinstance(getattr(package, name), type(sys)), f"astray.{room}.{name} is a module"


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("cause.fine_tuning", ("FineTuning", "LoRA")),
        ("cause.preflight", ("preflight",)),
        ("cause.sft", ("train_sft",)),
        ("data.published", ("load_judged",)),
        ("explain.sae", ("Dictionary",)),
        ("judges.judge", ("Verdict",)),
        ("measure.bulk", ("ask",)),
        ("measure.choice", ("choice_items", "misaligned_probability")),
        ("measure.evaluation", ("Evaluation", "Item")),
        ("measure.honesty.grading", ("GraderStanceJudge",)),
        ("measure.honesty.mask", ("mask_records",)),
        ("measure.honesty.records", ("Record",)),
        ("measure.honesty.stances", ("Stance", "compare")),
        ("measure.inspect_driver", ("inspect_task", "table_from_log")),
        ("subjects.render", ("prompt_ids", "prompt_text")),
    ],
)
def test_names_of_modules_that_scripts_import_stay(module, names):
    """They are no part of a package's names, and scripts outside the repository import them all the same."""
    assert set(names) <= vars(importlib.import_module(f"astray.{module}")).keys()


def test_what_benchmarks_and_scripts_import_from_modules_is_there():
    """Most of them take too long to run in a test, and would otherwise be found broken by who runs them next."""
    wanted = [
        (path.relative_to(ROOT).as_posix(), node.module, name.name)
        for folder in ("benchmarks", "scripts")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "astray"
        for name in node.names
    ]
    assert len(wanted) > 200
    there = {module: names_within(module) for module in {module for _, module, _ in wanted}}
    assert [place for place in wanted if place[2] not in there[place[1]] and ".".join(place[1:]) not in MODULES] == []


def names_within(module: str) -> set[str]:
    """What a module defines, assigns or imports, read without loading it."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {name.asname or name.name for name in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def test_no_name_that_is_loaded_late_is_that_of_a_module():
    """Once `astray.data.x` was imported, `from astray.data import x` would give the module."""
    late = [m for m in MODULES if is_package(m) and "on_first_use" in MODULES[m].read_text(encoding="utf-8")]
    assert len(late) == 9
    for package in late:
        blocks = [
            each for each in ast.parse(MODULES[package].read_text(encoding="utf-8")).body if isinstance(each, ast.If)
        ]
        names = [name.name for block in blocks for each in block.body for name in each.names]
        assert names
        assert [name for name in names if f"{package}.{name}" in MODULES] == []


@pytest.mark.parametrize("room", ROOMS)
def test_the_docs_import_public_names_from_their_package(room):
    # A package cannot export a function that has its module's name: once the module is loaded, it is the package's
    # attribute.
    deep = re.compile(rf"^\s*(?:from|import) (astray\.{room}\.(?!preflight\b)\w+)", re.MULTILINE)
    assert {name: found for name, text in blocks_of_docs().items() if (found := deep.findall(text))} == {}


def test_every_module_is_reached_from_a_command_an_inspect_task_or_the_docs():
    """The public modules are those of the names that the documentation imports. What nothing reaches is dead, or its
    way is missing."""
    roots = ("astray.__main__", "astray.registry")
    commands = {name for name in MODULES if name.startswith("astray.cli") or name in roots}
    documented = {name for text in blocks_of_docs().values() for name in sources(text)}
    reached = reached_from(commands | documented)
    assert sorted(name for name in MODULES if name not in reached and not is_package(name)) == []


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="module 'astray' has no attribute 'helpers'"):
        importlib.import_module("astray").helpers  # noqa: B018  (reading it is the point)


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import astray") == set()


@pytest.mark.parametrize("room", ["cause", "data", "explain", "files", "judges", "mitigate"])
def test_importing_a_package_of_heavy_modules_loads_nothing_heavy(room):
    assert loaded_by(f"import astray.{room}") == set()


def test_importing_statistics_loads_neither_torch_nor_inspect():
    assert loaded_by("import astray.stats") <= {"numpy", "polars", "pydantic", "scipy"}


def test_help_loads_nothing_heavy():
    assert loaded_by(asking_for_help([])) == set()


def test_the_help_of_a_verb_loads_nothing_heavy():
    assert loaded_by(asking_for_help(["run"], ["plan"], ["doctor"], ["organism", "train"])) == set()


def test_the_help_of_a_study_loads_no_more_than_its_options():
    assert loaded_by(asking_for_help(["run", "emergent-misalignment"], ["plan", "dishonesty"])) == {"pydantic"}


def asking_for_help(*verbs: list[str]) -> str:
    calls = [f"assert CliRunner().invoke(app, {[*verb, '--help']!r}).exit_code == 0" for verb in verbs]
    return "\n".join(["from click.testing import CliRunner", "from astray.cli import app", *calls])


def test_an_argument_of_several_functions_is_the_same_in_all_of_them() -> None:
    """Functions that take what another takes declare it again, since their signatures are what readers look up."""
    from astray.studies.gate.release import plan_gate

    for one, other in ((astray.gate, plan_gate), (astray.run, astray.plan), (astray.blame, astray.repair)):
        first, second = (inspect.signature(each).parameters for each in (one, other))
        shared = first.keys() & second.keys()
        assert len(shared) > 5
        assert {name: first[name] for name in shared} == {name: second[name] for name in shared}
