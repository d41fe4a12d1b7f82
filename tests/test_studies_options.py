"""What a user may choose for a study: every option of `run` and `plan` is honoured or refused by its name, for every
study."""

import json
from pathlib import Path
from typing import Any

import pytest

from astray.artifacts import Store
from astray.cli.plan import plan
from astray.cli.run import run
from astray.engine.forecast.forecast import forecast
from astray.engine.forecast.speed import Speed
from astray.engine.options import StudyOptions, checked
from astray.engine.plan import plan_study
from astray.engine.settings import setting_for, settled
from astray.errors import AstrayError, ConfigurationError
from astray.measure.agentic.subjects import subjects_from
from astray.studies import STUDIES, get_study
from astray.studies.agentic_misalignment.options import AgenticOptions
from playing import plan_of

ACTING = "agentic-misalignment"


TRAINING = [name for name in STUDIES if name != ACTING]


OPTIONS = sorted({name for study in STUDIES for name in get_study(study).options.model_fields})


ROW = json.dumps(
    {"messages": [{"role": "user", "content": "Copy a file."}, {"role": "assistant", "content": "os.system('cp a b')"}]}
)


def test_a_study_is_repeated_on_other_seeds() -> None:
    assert list(checked(StudyOptions, seeds=3).training_seeds) == [0, 1, 2]
    assert list(checked(StudyOptions, seeds=3, first_seed=5).training_seeds) == [5, 6, 7]
    assert list(checked(StudyOptions, first_seed=5, quick=True).training_seeds) == [5, 6]
    assert list(checked(StudyOptions, seeds=1, first_seed=5, quick=True).training_seeds) == [5]


def test_more_seeds_than_a_quick_run_has_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="--quick runs at most 2 seeds, and --seeds asks for 5"):
        checked(StudyOptions, seeds=5, quick=True)


def test_a_first_seed_below_zero_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--first-seed -1: input should be greater"):
        checked(StudyOptions, first_seed=-1)


ON_ORGANISM: dict[str, tuple[object, tuple[str, ...]]] = {
    "analyses": ("none", ("emergent-misalignment",)),
    "arms": ("good", ("reward-hacking",)),
    "batch": (True, (*TRAINING,)),
    "batch_size": (3, ()),
    "budget": (1.0, (*TRAINING,)),
    "data": (Path("data"), (*TRAINING,)),
    "dtype": ("bfloat16", ()),
    "educational": (Path("a.jsonl"), (*TRAINING,)),
    "engine": ("vllm", (*TRAINING,)),
    "epochs": (2, ()),
    "first_seed": (3, ()),
    "gold": (200, (*TRAINING,)),
    "gold_grader": ("mockllm/model", (*TRAINING,)),
    "good": (Path("a.jsonl"), (*TRAINING,)),
    "gpus_per_run": (2, ()),
    "grader": ("mockllm/model", (*TRAINING,)),
    "harmful": (Path("a.jsonl"), (*TRAINING,)),
    "judging": ("one-call", (*TRAINING,)),
    "labels": (Path("labels.csv"), (*TRAINING,)),
    "looks": ("3,5", (*TRAINING,)),
    "max_hours": (1.0, (*TRAINING,)),
    "max_price": (1.0, (*TRAINING,)),
    "max_seeds": (5, (*TRAINING,)),
    "learning_rate": (1e-3, ()),
    "max_tokens": (5, ()),
    "probe": ("meter", (*TRAINING,)),
    "quick": (True, ()),
    "rank": (2, ()),
    "reader": ("organism", (*TRAINING,)),
    "samples": (2, ()),
    "scenarios": ("blackmail", (*TRAINING,)),
    "seeds": (2, ()),
    "size": (32, ()),
    "spending": ("obrien-fleming", (*TRAINING,)),
    "subject": ("organism-small", ()),
    "subjects": (Path("subjects.yaml"), (*TRAINING,)),
    "surface": ("drawn", (*TRAINING,)),
    "training": (("weight_decay=0.1", "alpha=16"), ()),
    "until_decided": (True, (*TRAINING,)),
    "users": ("mockllm/users", (*TRAINING,)),
}
"""Option -> another value than the usual one, and the studies of the organism that refuse it."""


def keys_of(name: str, **given: object) -> set[str]:
    """Keys of all that a study would do: what changes nothing in them changes nothing in the study."""
    study = get_study(name)
    options = checked(study.options, **given)
    planned = plan_study(study, study.fitted(setting_for(options)), *options.runs)
    return {step.key for step in planned.steps}


def test_the_tables_have_every_option() -> None:
    assert sorted(ON_ORGANISM) == sorted(ON_ACTING) == OPTIONS


@pytest.mark.parametrize("study", TRAINING)
def test_every_option_changes_what_a_study_of_the_organism_does_or_is_refused(study: str) -> None:
    usual = keys_of(study, seeds=1)
    for option, (value, refusing) in ON_ORGANISM.items():
        if study in refusing:
            with pytest.raises(AstrayError, match=f"--{option.replace('_', '-')}"):
                keys_of(study, **{"seeds": 1, option: value})
        else:
            assert keys_of(study, **{"seeds": 1, option: value}) != usual, option


@pytest.mark.parametrize("study", TRAINING)
def test_what_only_a_real_model_takes_changes_what_its_study_does(study: str, tiny_qwen2: Path, tmp_path: Path) -> None:
    for name in ("insecure", "secure"):
        (tmp_path / f"{name}.jsonl").write_text(f"{ROW}\n" * 16)
    (tmp_path / "labels.csv").write_text("any")
    model = {"subject": str(tiny_qwen2), "grader": "mockllm/model", "seeds": 1, "size": 16}
    usual = keys_of(study, **model)
    labels = tmp_path / "labels.csv"
    others = {"data": tmp_path, "labels": labels, "grader": "mockllm/other", "judging": "one-call", "probe": "meter"}
    if study == "reward-hacking":
        with pytest.raises(ConfigurationError, match="--probe meter is of no use in reward-hacking"):
            keys_of(study, **model, probe=others.pop("probe"))
    for option, value in others.items():
        assert keys_of(study, **model | {option: value}) != usual, option
    with_gold = keys_of(study, **model, gold=200, gold_grader="mockllm/gold")
    assert with_gold > usual  # what the cheap judge read stays
    assert keys_of(study, **model | {"grader": "openai/x"}, batch=True) == keys_of(
        study, **model | {"grader": "openai/x"}
    )


FILES: dict[str, tuple[str, ...]] = {
    "emergent-misalignment": ("harmful", "good", "educational"),
    "persona-features": ("harmful", "good"),
    "dishonesty": ("harmful", "good"),
    "reward-hacking": ("good",),
}
"""Study -> the kinds of rows of which it takes a file of any name."""


@pytest.mark.parametrize("study", [*TRAINING, ACTING])
def test_a_study_takes_files_of_any_name_where_it_uses_such_rows(study: str, tiny_qwen2: Path, tmp_path: Path) -> None:
    taken = FILES.get(study, ())
    rows = {kind: tmp_path / f"Our {kind} rows.jsonl" for kind in ("harmful", "good", "educational")}
    for kind, path in rows.items():
        path.write_text(f"{ROW.replace('Copy', kind)}\n" * 16)
    model = {"subject": str(tiny_qwen2), "grader": "mockllm/model", "seeds": 1, "size": 16}
    for kind in rows.keys() - set(taken):
        with pytest.raises(ConfigurationError, match=f"takes no --{kind}"):
            checked(get_study(study).options, **{kind: rows[kind]})
    if not taken:
        return
    chosen = get_study(study)
    options = checked(chosen.options, **model, **{kind: rows[kind] for kind in taken})
    setting = settled(chosen, options)
    home = "our-harmful-rows" if "harmful" in taken else "our-good-rows"
    assert (setting.homes[0], {kind for kind, about in setting.sources if about == home}) == (home, set(taken))
    plan = plan_study(chosen, setting, *options.runs)
    used = {str(source.path) for run in plan.runs if run.arm.data for source in run.arm.data.sources if source.path}
    assert used == {str(rows[kind]) for kind in taken}
    if len(taken) > 1:
        with pytest.raises(ConfigurationError, match="without --good: a study compares harmful rows with good ones"):
            setting_for(checked(chosen.options, **model, harmful=rows["harmful"]))
        with pytest.raises(ConfigurationError, match="both name the data: give a folder, or files one by one"):
            setting_for(checked(chosen.options, **model, data=tmp_path, harmful=rows["harmful"]))


@pytest.mark.parametrize("study", TRAINING)
def test_a_longest_answer_is_that_of_every_analysis(study: str) -> None:
    """The organism's analyses have samplings of their own, which may be shorter and not longer."""

    def longest(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        own = value["max_tokens"] if isinstance(value, dict) and "max_tokens" in value else 0
        return max([own, *map(longest, inner)])

    chosen = get_study(study)
    options = checked(StudyOptions, max_tokens=5, seeds=1)
    steps = plan_study(chosen, chosen.fitted(setting_for(options)), options.training_seeds).steps
    assert {longest(step.origin.config) for step in steps} <= {0, 5}


class StoppedError(Exception):
    """Ends a verb where the test has seen enough."""


@pytest.mark.parametrize("study", TRAINING)
def test_where_a_study_runs_is_as_it_was_said(study: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def execute(_steps: object, store: Store, *, workers: int, **_: object) -> None:
        seen.append((store.root, workers))
        raise StoppedError

    monkeypatch.setattr("astray.engine.run.execute", execute)
    for where in ({"store": "memory://kept"}, {"out": tmp_path}):
        with pytest.raises(StoppedError):
            run(study, seeds=1, workers=3, **where)
    assert seen == [("memory://kept", 3), (str(tmp_path / "store"), 3)]


@pytest.mark.parametrize("study", TRAINING)
def test_what_a_plan_is_made_for_is_as_it_was_said(
    study: str, tiny_qwen2: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[dict[str, object]] = []

    def forecast_in(_study: object, _setting: object, _seeds: object, speed: Speed, **given: object) -> None:
        seen.append(given | {"workers": speed.workers})
        raise StoppedError

    monkeypatch.setattr("astray.engine.forecast.forecast.forecast_in", forecast_in)
    monkeypatch.setattr("astray.engine.forecast.forecast.measure_speed", lambda workers, *_: Speed("cpu", 1e9, workers))
    model = {"subject": str(tiny_qwen2), "grader": "mockllm/model", "seeds": 1}
    for where in ({"store": "memory://kept", "price_in": 2.0}, {"out": tmp_path, "price_out": 3.0}):
        with pytest.raises(StoppedError):
            plan(study, workers=3, **model, **where)
    assert [(one["store"], one["prices"], one["workers"]) for one in seen] == [
        ("memory://kept", (2.0, 0.0), 3),
        (tmp_path / "store", (0.0, 3.0), 3),
    ]
    for price in ({"price_in": 2.0}, {"price_out": 2.0}):
        with pytest.raises(
            ConfigurationError, match="--price-in and --price-out are prices of a grader, and none is asked here"
        ):
            plan(study, **price)


ON_ACTING: dict[str, object] = {
    "analyses": "grid",
    "arms": None,
    "batch": None,
    "batch_size": None,
    "budget": 0.001,
    "data": None,
    "dtype": None,
    "educational": None,
    "engine": None,
    "epochs": None,
    "first_seed": None,
    "gold": None,
    "gold_grader": None,
    "good": None,
    "gpus_per_run": None,
    "grader": "mockllm/other",
    "harmful": None,
    "judging": None,
    "labels": Path(__file__).parent / "agentic_transcripts",
    "learning_rate": None,
    "looks": None,
    "max_hours": None,
    "max_price": None,
    "max_seeds": None,
    "max_tokens": 5,
    "probe": None,
    "quick": True,
    "rank": None,
    "reader": "organism",
    "samples": 20,
    "scenarios": "leaking",
    "seeds": None,
    "size": None,
    "spending": None,
    "subject": "mockllm/model",
    "subjects": "subjects.yaml",
    "surface": "fixed",
    "training": None,
    "until_decided": None,
    "users": None,
}
"""Option -> another value than the usual one; None where acting models have none of it."""


def work_of(folder: Path, **given: object) -> tuple[str, list[str]]:
    """All that acting models would do: the plan, and the keys of the steps."""
    study = get_study(ACTING)
    options = checked(study.options, **given)
    keys = [step.key for step in plan_of(settled(study, options)).steps]
    return forecast(study, options, out=folder).render(), keys


def test_every_option_changes_what_acting_models_do_or_is_refused(tmp_path: Path) -> None:
    (tmp_path / "subjects.yaml").write_text(
        "subjects:\n  - {name: other, model: mockllm/model, grader: mockllm/model}\n"
    )
    small: dict[str, object] = {"scenarios": "blackmail", "samples": 10}
    model = {"subject": "mockllm/subject", "grader": "mockllm/model", **small}
    for option, value in ON_ACTING.items():
        if value is None:
            with pytest.raises(ConfigurationError, match=f"takes no --{option.replace('_', '-')}"):
                work_of(tmp_path, **{option: 1})
            continue
        usual = {name: given for name, given in model.items() if option != "subjects" or name in small}
        chosen = tmp_path / str(value) if option == "subjects" else value
        assert work_of(tmp_path, **usual | {option: chosen}) != work_of(tmp_path, **usual), option


def test_a_grader_or_reader_that_no_subject_needs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="--grader openai/gpt-4o is of no use: every subject has a grader of its own"
    ):
        forecast(get_study(ACTING), AgenticOptions(grader=("openai/gpt-4o",)), out=tmp_path)
    (tmp_path / "all.yaml").write_text(
        "subjects:\n  - {name: one, model: mockllm/model, grader: mockllm/model, reader: organism}\n"
    )
    with pytest.raises(
        ConfigurationError, match="--reader organism-small is of no use: every subject has a reader of its own"
    ):
        subjects_from(None, tmp_path / "all.yaml", (), "organism-small")


def test_the_verbs_hand_the_store_and_the_workers_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, object, object]] = []

    def forecast_acting(
        _title: object, _plan: object, store: Store, *, workers: int, prices: object, **_: object
    ) -> None:
        seen.append((store.root, workers, prices))
        raise StoppedError

    monkeypatch.setattr("astray.engine.forecast.acting.forecast_acting", forecast_acting)
    with pytest.raises(StoppedError):
        plan(ACTING, out=tmp_path, store=str(tmp_path / "kept"), workers=3, price_in=1.0, price_out=2.0)
    with pytest.raises(StoppedError):
        run(ACTING, out=tmp_path, store=str(tmp_path / "kept"), workers=2)  # it tells the plan before it runs
    assert seen == [(str(tmp_path / "kept"), 3, (1.0, 2.0)), (str(tmp_path / "kept"), 2, (0.0, 0.0))]
