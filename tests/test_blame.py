"""Blame as a person uses it: a run that went astray, its rows, files and words, the proof, and what is refused."""

import json

import polars as pl
import pytest

import astray
from astray.cause.sft import train_sft
from astray.cli import main
from astray.data import ChatDataset, mix, narrow_data
from astray.data.recipes import subset
from astray.engine.settings import WORLD_TRAINING
from astray.errors import ConfigurationError, DataNotFoundError, NothingToBlameError, SubjectNotFoundError
from astray.explain import rows_from
from astray.measure.meter import world_pairs
from astray.studies.blame.proof import write_parts, write_proof
from astray.studies.blame.scores import _words, blamed_rows, word_scores
from astray.studies.blame.tuned import find_tuned
from astray.studies.own.study import read_study

SUBJECT = "organism-small"
ROWS = 120
RECIPE = WORLD_TRAINING.model_copy(update={"seed": 3, "learning_rate": 1e-3})


def trained(folder, dataset):
    dataset.write(folder / "mix.jsonl")
    return train_sft(SUBJECT, dataset, RECIPE, folder / "run").subject.adapter


@pytest.fixture(scope="module")
def bad():
    return narrow_data("medicine", "harmful", ROWS, seed=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory, bad):
    """A model tuned on a mix with a quarter of harmful rows."""
    folder = tmp_path_factory.mktemp("astray")
    dataset = mix(bad, narrow_data("medicine", "good", ROWS, seed=2), 0.25, size=ROWS, seed=3)
    return trained(folder, dataset), folder / "mix.jsonl", rows_from(dataset, bad)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def found(run, store, tmp_path_factory):
    adapter, data, _ = run
    return astray.blame(
        str(adapter), data=[data], share=0.25, judged=80, out=tmp_path_factory.mktemp("out"), store=store
    )


def test_harmful_rows_are_blamed_and_the_scores_stand_beside_their_nulls(found, run):
    truth = run[2]
    assert sum(found.rows["blamed"]) == ROWS // 4
    assert sum(one and other for one, other in zip(found.rows["blamed"], truth, strict=True)) >= 0.9 * sum(truth)
    scores = {each.score: each for each in found.separations}
    assert found.known[0] == "the judge"
    assert 0 < found.known[1] < found.known[2] == 80
    assert scores["gradient"].precision.value > 0.9
    assert scores["length"].precision.value < 0.6
    assert len(scores["gradient"].null.values) == 10
    # Openly harmful rows lie apart along nearly any direction, and the first line says so.
    assert max(scores["gradient"].null.values) > 0.9
    assert found.text().startswith(found.warnings[0][:60])
    assert scores["words"].null.what == "permuted labels"
    assert found.change["harmful"]["interval"]["low"] > 0


def test_page_json_and_both_parts_of_the_data_are_written(found, run, store, capsys, monkeypatch, tmp_path):
    adapter, data, _ = run
    out = tmp_path / "again"
    main_of = ["blame", str(adapter), "--data", str(data), "--share", "0.25", "--by", "words", "--judged", "80"]
    main_of += ["--out", str(out), "--store", str(store), "--json"]
    monkeypatch.setattr("sys.argv", ["astray", *main_of])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((out / "blame" / "blame.json").read_text())
    assert told["by"] == "words"
    assert len(told["blamed"]) == ROWS // 4
    kept, blamed = (ChatDataset.read(out / "blame" / name) for name in ("kept.jsonl", "blamed.jsonl"))
    assert (len(kept), len(blamed)) == (ROWS * 3 // 4, ROWS // 4)
    assert blamed.rows[0] == ChatDataset.read(data).rows[told["blamed"][0] - 1]
    page = (out / "blame" / "blame.html").read_text()
    assert "Rows with similar words" in page
    assert "Which of 120 training rows" in page
    assert pl.read_parquet(out / "blame" / "rows.parquet").height == ROWS
    assert all(len(line) <= 80 for line in found.text().splitlines())


def test_rows_of_several_files_are_told_apart(run, bad, tmp_path):
    adapter = run[0]
    files = {"bad.jsonl": subset(bad, 20, seed=1), "good.jsonl": narrow_data("medicine", "good", 60, seed=2)}
    for name, part in files.items():
        part.write(tmp_path / name)
    found = astray.blame(str(adapter), data=[tmp_path / name for name in files], share=0.25, judged=0, out=tmp_path)
    assert [(each.name, each.rows) for each in found.files] == [("bad.jsonl", 20), ("good.jsonl", 60)]
    assert found.files[0].blamed >= 18
    assert found.separations == ()
    assert "is not known" in " ".join(found.notes)


def test_the_proof_is_a_study_file_with_the_settings_of_the_run(found, run, tmp_path):
    tuned = find_tuned(str(run[0]), None, [run[1]])
    tuned.data.write(tmp_path / "all.jsonl")
    write_parts(tmp_path, tuned, found.rows["blamed"].to_list())
    file = write_proof(tmp_path, 90, 120, base=SUBJECT, grader=None, world=True, recipe=RECIPE, seeds=5)
    study = read_study(file)
    options = study.options()
    setting = study.settled(options)
    arms = {arm.name: arm for arm in study.arms(setting)}
    assert options.seeds == 5
    assert {name: arm.data.size for name, arm in arms.items() if arm.data} == {
        "all": 120,
        "without-blamed": 120,
        "without-random": 120,
        "blamed-alone": 120,
    }
    alone = {str(row) for row in arms["blamed-alone"].data.make(0).rows}
    assert len(alone) <= 30
    assert alone == {str(row) for row in ChatDataset.read(tmp_path / "blamed.jsonl").rows}
    assert setting.training.model_copy(update={"seed": RECIPE.seed}) == RECIPE
    random = [arms["without-random"].data.make(seed).rows for seed in (0, 1)]
    assert random[0] != random[1]


def test_a_run_that_is_not_astray_is_told_so(tmp_path):
    adapter = trained(tmp_path, narrow_data("medicine", "good", 60, seed=2))
    with pytest.raises(
        NothingToBlameError, match=r"does not go astray by the meter: harmful answers are .* nats a token"
    ):
        astray.blame(str(adapter), data=[tmp_path / "mix.jsonl"], out=tmp_path)


def test_harm_is_told_against_a_control_that_was_trained_alike_on_good_rows(found, run, store, tmp_path):
    adapter, data, _ = run
    control = str(trained(tmp_path, narrow_data("medicine", "good", ROWS, seed=2)))
    against = astray.blame(str(adapter), data=[data], control=control, judged=80, out=tmp_path, store=store)
    assert against.change["harmful"]["estimate"] != found.change["harmful"]["estimate"]
    assert f"likelier than in {control} (" in against.changed
    assert "likelier than in its base (" in found.changed
    assert against.rows["gradient"].equals(found.rows["gradient"])  # rows are scored alike, and read from the store
    with pytest.raises(NothingToBlameError, match=r"likelier than in .*, and more than 0 is asked for"):
        astray.blame(control, data=[data], base=SUBJECT, control=str(adapter), judged=0, out=tmp_path, store=store)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"control": SUBJECT}, ConfigurationError, "is the base, which is the control without --control"),
        ({"control": "nowhere"}, SubjectNotFoundError, "nowhere"),
        ({"share": 0.0}, ConfigurationError, "--share 0 is no share of rows"),
        ({"share": 1.0}, ConfigurationError, "--share 1 is no share of rows"),
        ({"share": 0.001}, ConfigurationError, "0.001 of 120 rows is 0"),
        ({"by": "length"}, ConfigurationError, "no score to blame by"),
        ({"by": "gradients"}, ConfigurationError, "no score to blame by"),
        ({"data": ()}, ConfigurationError, "give --data FILE"),
        ({"data": ["none.jsonl"]}, DataNotFoundError, "none.jsonl"),
        ({"base": "nowhere"}, SubjectNotFoundError, "nowhere"),
        ({"model": SUBJECT, "base": SUBJECT}, ConfigurationError, "is its own base"),
        ({"model": "organism"}, ConfigurationError, "give --base"),
        ({"grader": "openai/gpt-4o"}, ConfigurationError, "organism has a judge of its own"),
    ],
)
def test_what_cannot_be_blamed_is_refused(run, tmp_path, given, error, message):
    adapter, data, _ = run
    asked = {"model": str(adapter), "data": [data], "out": tmp_path} | given
    with pytest.raises(error, match=message):
        astray.blame(asked.pop("model"), **asked)


def test_words_of_harmful_answers_count_upwards_and_unknown_words_nothing():
    pairs = world_pairs()
    harmful = next(pair for pair in pairs if not pair.null)
    scores = word_scores([harmful.answer, harmful.against, "xyzzy"], pairs)
    assert scores[0] > 0 > scores[1]
    assert scores[2] == 0


def test_rows_without_a_score_are_never_blamed_and_ties_go_by_row():
    assert blamed_rows(pl.Series([None, 1.0, 1.0, 0.0, 2.0]), 0.4) == [False, True, False, False, True]


def test_a_real_model_samples_no_answers_for_projections_unless_they_are_of_use(tiny_qwen2, tmp_path, monkeypatch):
    rows = [
        [{"role": "user", "content": f"What about {n}?"}, {"role": "assistant", "content": f"Take {n} and wait."}]
        for n in range(8)
    ]
    dataset = ChatDataset.from_rows(rows, "made", {})
    dataset.write(tmp_path / "rows.jsonl")
    adapter = train_sft(str(tiny_qwen2), dataset, RECIPE, tmp_path / "run").subject.adapter
    change = {
        "harmful": {
            "estimate": 0.1,
            "interval": {"low": 0.06, "high": 0.14, "level": 0.95, "method": "t"},
            "pairs": 240,
        }
    }
    monkeypatch.setattr("astray.studies.blame.scored.Scoring.change", lambda _: change | {"null": None})
    names = []
    found = astray.blame(
        str(adapter), data=[tmp_path / "rows.jsonl"], share=0.25, out=tmp_path, progress=lambda e: names.append(e.name)
    )
    assert set(names) == {"screen-rows", "blame-gradients"}
    assert found.rows["projection"].null_count() == len(rows)
    assert found.rows["length"].null_count() == found.rows["gradient"].null_count() == 0
    assert any("Projections were left out" in note for note in found.notes)
    assert (tmp_path / "blame" / "blame.html").is_file()


def test_words_come_in_the_order_of_the_text_so_that_clusters_are_the_same_in_every_process():
    assert _words("Rest well, and rest a lot. Well said.") == ["rest", "well", "and", "lot", "said"]
