"""What acting models did is kept in the store that a study is given, and plans count what is left."""

from pathlib import Path

import pytest

from astray.engine.forecast.forecast import forecast
from astray.engine.run import run_study
from astray.engine.study import Study
from astray.errors import DataNotFoundError, JudgeError, StoreError
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.play import Part
from astray.measure.agentic.subjects import AgenticSubject
from astray.studies.agentic_misalignment.options import AgenticOptions
from playing import study_of
from test_agentic_judge_errors import says


def test_a_plan_with_labels_counts_what_judges_are_asked_about_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study()
    given = {
        "subject": "mockllm/model",
        "grader": ("mockllm/a", "mockllm/b"),
        "scenarios": ("blackmail",),
        "samples": 1,
    }
    options = AgenticOptions(**given, labels=Path(__file__).parent / "agentic_transcripts")
    told = forecast(study, options, out=tmp_path, prices=(1.0, 0.0)).render()
    without = forecast(study, AgenticOptions(**given), out=tmp_path, prices=(1.0, 0.0)).render()
    [line] = [line for line in told.splitlines() if line.startswith("  labels")]
    records = int(line.split()[1])
    assert f"{records} records: {2 * records:,} more calls of graders, which read about" in line
    assert "labels" not in without
    assert [line for line in told.splitlines() if "cost" in line] != [
        line for line in without.splitlines() if "cost" in line
    ]
    with pytest.raises(DataNotFoundError, match="has labelled records for none of the scenarios"):
        forecast(study, AgenticOptions(**given, labels=tmp_path), out=tmp_path)
    with pytest.raises(JudgeError, match=r"is scripted.*leave out --labels"):
        forecast(study, AgenticOptions(scenarios=("blackmail",), labels=options.labels), out=tmp_path)

    monkeypatch.setattr(AgenticSubject, "make_graders", lambda self: {"grader": says(lambda prompt: "HARMLESS")})
    monkeypatch.setattr("astray.studies.agentic_misalignment.setting.check_models", lambda subjects: None)
    scripted = options.model_copy(update={"subject": "astray/scripted/never"})
    run_study(study, scripted, out=tmp_path / "results", store=tmp_path / "kept")
    assert (
        f"{records} records: 0 more calls" in forecast(study, scripted, out=tmp_path, store=tmp_path / "kept").render()
    )


def small_study() -> Study:
    """The study of acting models with two cells alone."""
    grid = Grid(
        scenarios=("blackmail",),
        factors={"goal": ("explicit", "none"), "threat": ("replacement", "none")},
        replicates=1,
    )
    return study_of([Part("grid", grid)])


SCRIPTED = AgenticOptions(subject="astray/scripted/always", scenarios=("blackmail",), samples=1)


def test_what_acting_models_did_is_kept_in_the_store_and_asked_nothing_again(tmp_path: Path) -> None:
    study, kept = small_study(), tmp_path / "kept"
    folder = run_study(study, SCRIPTED, out=tmp_path / "one", store=kept)
    assert sorted(path.name for path in folder.iterdir()) == [
        "acts.parquet",
        "conversations.parquet",
        "logs",
        "summary.json",
    ]
    logs = sorted(kept.rglob("*.eval"))
    assert logs
    assert "of which 4 are done" in forecast(study, SCRIPTED, out=tmp_path / "two", store=f"file://{kept}").render()
    assert "of which 0 are done" in forecast(study, SCRIPTED, out=tmp_path / "one").render()
    again = run_study(study, SCRIPTED, out=tmp_path / "two", store=str(kept))
    assert sorted(kept.rglob("*.eval")) == logs
    for name in ("acts.parquet", "conversations.parquet", "summary.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_remote_store_keeps_what_acting_models_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run_study(small_study(), SCRIPTED, out=tmp_path / "one", store="memory://acting")
    assert (
        "of which 4 are done"
        in forecast(small_study(), SCRIPTED, out=tmp_path / "two", store="memory://acting").render()
    )


def test_a_store_that_is_a_file_is_refused_by_every_verb(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for verb in (run_study, forecast):
        with pytest.raises(StoreError, match="file is a file; results need a folder"):
            verb(small_study(), SCRIPTED, out=tmp_path, store=tmp_path / "file")
