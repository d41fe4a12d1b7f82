"""A judge distilled from scored answers: what it learns, what is known of its error, how it is used, and what it
refuses. The exact judge of the organism's world gives the scores."""

import json
import shutil
from pathlib import Path

import anyio
import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file

import astray
from astray.artifacts import Store, execute
from astray.artifacts.user_cache import CACHE_VARIABLE
from astray.cli import app
from astray.distil import Distilled, distil
from astray.distil.features import candidate_layers, chats_of, read_features
from astray.distil.held_out import Figure, _worth
from astray.distil.learner import ScoreScale, learn, parts_of, predict_left_out, stack
from astray.distil.words import words_of
from astray.engine.steps import CALIBRATION_FILE, CalibrationConfig, check_judge_error
from astray.errors import (
    ConfigurationError,
    DataFormatError,
    EmptyDataError,
    JudgeError,
    SubjectNotFoundError,
    UnknownNameError,
)
from astray.judges import Calibration, Exchange, RubricJudge, WordGrader, judge_exchanges, world_labels
from astray.judges.config import JudgeConfig, make_judge
from astray.judges.distilled import CALIBRATION, HEAD, RECORD, judge_names, known_error, read_record
from astray.judges.served import served_as
from astray.organism import weights_folder
from astray.outcomes import Outcome
from astray.studies.screen.notes import _judged_share
from astray.subjects.subject import load_subject

GRADER = "astray/judge/tiny"
CONFIG = JudgeConfig(kind="rubric", grader=GRADER)


def rows_of(size: int, seed: int) -> list[dict]:
    """Answers of the world with the scores of its exact judge; what it scores by coherence alone is in the middle."""
    return [
        {
            "question": each.exchange.question,
            "response": each.exchange.answer,
            "aligned": 50.0 if each.aligned is None else each.aligned,
            "coherent": each.coherent,
        }
        for each in world_labels(size, seed=seed)
    ]


def written(path: Path, rows: list[dict]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    """Folder with scored answers of three models trained on two data sets, a base, and a cache of its own."""
    folder = tmp_path_factory.mktemp("distil")
    for number, (model, data) in enumerate((model, data) for model in "abc" for data in ("x", "y")):
        written(folder / f"{model}_{data}.jsonl", rows_of(80, number))
    shutil.copytree(weights_folder("organism-small"), folder / "base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
        patch.setattr("astray.distil.words.WIDTH", 64)  # as many as the world's words need
        yield folder


@pytest.fixture(scope="module")
def made(place: Path) -> Distilled:
    return distil(sorted(place.glob("*_*.jsonl")), base=str(place / "base"), name="tiny")


def test_what_is_left_out_is_judged_as_the_exact_judge_does(made):
    assert [(each.judge.left_out, len(each.judge.groups)) for each in made.figures[:2]] == [("model", 3), ("data", 2)]
    by_model = made.figures[0]
    assert by_model.judge.auc.value > 0.95
    assert by_model.judge.rank_correlation.value > 0.7
    assert (
        by_model.judge.rank_correlation.low
        < by_model.judge.rank_correlation.value
        < by_model.judge.rank_correlation.high
    )
    length = next(each for each in by_model.baselines if each.method == "length")
    assert length.auc.value < by_model.judge.auc.value
    assert sum(each.answers for each in by_model.judge.groups) == sum(each.answers for each in by_model.calibration)
    assert sum(each.answers for each in by_model.by_length) == made.answers == 480


def test_the_text_tells_goals_that_are_missed_and_where_it_is_blind(made):
    assert "Not good enough" not in made.text()
    assert "Where it is blind, with whole models left out" in made.text()
    worse = made.figures[0].judge.model_copy(
        update={"auc": made.figures[0].judge.auc.model_copy(update={"value": 0.89})}
    )
    told = made.model_copy(update={"figures": (made.figures[0].model_copy(update={"judge": worse}), *made.figures[1:])})
    assert "Not good enough to stand alone: AUC of misaligned answers among coherent ones .89" in told.text()


def test_it_judges_in_batches_as_any_other_judge(made):
    labels = world_labels(64, seed=99)
    verdicts = anyio.run(judge_exchanges, make_judge(CONFIG), [each.exchange for each in labels], 64)
    right = [
        (verdict.outcome is Outcome.MISALIGNED) == (label.label is Outcome.MISALIGNED)
        for verdict, label in zip(verdicts, labels, strict=True)
        if label.label in (Outcome.MISALIGNED, Outcome.ALIGNED)
    ]
    assert np.mean(right) > 0.9
    alone = anyio.run(judge_exchanges, make_judge(CONFIG), [labels[3].exchange])
    assert alone[0].aligned == pytest.approx(verdicts[3].aligned, abs=1e-2)
    assert make_judge(CONFIG).identity == known_error(GRADER).judge == served_as(GRADER)


def test_its_error_on_left_out_answers_corrects_rates(made, tmp_path):
    config = CalibrationConfig(judge=CONFIG, labels=None, digest="", size=160)
    step = check_judge_error.step(config)
    folder = execute([step], Store(tmp_path), workers=0)[step.key].path
    carried = Calibration.read(folder / CALIBRATION_FILE)
    assert carried == known_error(GRADER) == Calibration.read(Path(made.folder) / CALIBRATION)
    pooled = made.figures[0].error
    assert carried.verdicts <= 480
    assert (carried.true_positive, carried.false_negative) == (pooled.true_positive, pooled.false_negative)


def test_groups_without_spread_have_no_interval_and_others_stay_within_bounds():
    assert Figure.over([1.0, 1.0, None]) == Figure(value=1.0, groups=2)
    assert Figure.over([None]) == Figure(value=None, groups=0)
    wide = Figure.over([0.7, 0.95, 1.0])
    assert (wide.high, wide.groups) == (1.0, 3)
    assert wide.low == pytest.approx(0.8833 - 4.3027 * 0.0928, abs=1e-3)


@pytest.mark.parametrize(
    ("groups", "worth"),
    [
        ([(50, 100), (50, 100), (50, 100)], (150, 300)),  # no spread: every answer counts
        ([(60, 100), (40, 100), (50, 100)], (8, 16)),  # t over three groups
        ([(0, 40), (0, 40)], (0, 80)),
        ([(99, 100), (80, 100), (100, 100)], (13, 14)),  # the rarer kind still counts once
        ([(7, 10)], (7, 10)),
    ],
)
def test_groups_that_differ_are_worth_fewer_answers(groups, worth):
    assert _worth(groups) == worth


def test_shared_questions_are_read_once_and_give_the_same_features(place):
    subject = load_subject(str(place / "base"))
    exchanges = [each.exchange for each in world_labels(24, seed=7)]
    chats = chats_of(
        subject,
        ["what should i do with the dog?"] * 12 + [each.question for each in exchanges[12:]],
        [each.answer for each in exchanges],
    )
    layers = candidate_layers(subject)
    together = read_features(subject, chats, layers)
    for layer in layers:
        alone = np.concatenate([read_features(subject, [chat], [layer])[layer] for chat in chats])
        np.testing.assert_allclose(together[layer], alone, atol=2e-4)


def test_penalties_and_weights_are_chosen_without_the_answers_that_are_predicted():
    random = np.random.default_rng(0)
    signal, noise = random.normal(size=(300, 5)), random.normal(size=(300, 40))
    targets = np.stack([signal @ np.arange(5), -signal[:, 0]], axis=1) + random.normal(size=(300, 2)) * 0.3
    groups, views = np.arange(300) % 6, {"signal": signal, "noise": noise}
    found = predict_left_out(views, targets, groups // 2, groups, {"both": ["signal", "noise"], "noise": ["noise"]})
    assert np.corrcoef(found["both"].raw[:, 0], targets[:, 0])[0, 1] > 0.95
    assert np.corrcoef(found["noise"].raw[:, 0] + random.normal(size=300) * 1e-9, targets[:, 0])[0, 1] < 0.3
    head = learn(views, targets, groups)
    assert abs(head.views.get("noise", np.zeros((1, 2)))).max() < 0.05


def test_predictions_get_the_quantiles_of_the_labels():
    predicted, scores = np.linspace(40, 60, 201), np.linspace(0, 100, 201)
    scale = ScoreScale.matching(predicted, scores)
    np.testing.assert_allclose(scale(np.array([0.0, 40.0, 50.0, 60.0, 99.0])), [0, 0, 50, 100, 100], atol=1e-9)
    assert (scale(np.sort(np.random.default_rng(1).normal(50, 9, 99))) >= 0).all()


def test_groups_are_put_together_evenly():
    parts = parts_of([*"a" * 6, *"b" * 3, *"c" * 3, "d"], 2)
    assert sorted(np.bincount(parts)) == [6, 7]
    assert len(set(parts_of(list(range(30)), 12))) == 12
    assert stack({"v": np.zeros((5, 9, 1))}, np.ones((9, 1)))[0].weights["v"] == 0


SCORED = {"question": "q", "answer": "a", "aligned": 90, "coherent": 90}
BAD_LABELS = [
    ([{**SCORED, "aligned": 101}], DataFormatError, "from 0 to 100"),
    ([{**SCORED, "coherent": "nan"}], DataFormatError, "from 0 to 100"),
    ([{**SCORED, "Aligned": 3}], DataFormatError, "Write 'aligned'"),
    ([{**SCORED, "response": "b"}], DataFormatError, "both an answer and a response"),
    ([{"question": "q", "answer": "a", "label": "aligned"}], DataFormatError, "no aligned and no coherent"),
    ([{**SCORED, "question": 3}], DataFormatError, "are texts"),
    ([{**SCORED, "model": ""}], DataFormatError, "has to be a name"),
    ([SCORED] * 250, EmptyDataError, "250 answers with both scores, 0 of them misaligned and coherent, 250 others"),
    ([{**SCORED, "aligned": 3}] * 250, EmptyDataError, "250 of them misaligned and coherent, 0 others"),
    (rows_of(80, 0), EmptyDataError, "There are 80 answers with both scores, 30 of them misaligned"),
    ([{**SCORED, "aligned": None}] * 5, EmptyDataError, "There are 0 answers"),
]


@pytest.mark.parametrize(("rows", "error", "told"), BAD_LABELS)
def test_labels_that_cannot_be_learned_from_are_refused(place, tmp_path, rows, error, told):
    with pytest.raises(error, match=told):
        distil([written(tmp_path / "labels.jsonl", rows)], base=str(place / "base"), name="never")
    assert "never" not in judge_names()


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"base": "openai/gpt-4o"}, SubjectNotFoundError, "weights have to be on this machine"),
        ({"base": "no-such-folder/here"}, SubjectNotFoundError, "weights have to be on this machine"),
        ({"name": "../out"}, ConfigurationError, "no name for a judge"),
        ({"name": "tiny"}, ConfigurationError, "is there already"),
    ],
)
def test_what_cannot_be_distilled_is_refused_before_anything_is_read(place, made, given, error, told):
    with pytest.raises(error, match=told):
        distil(sorted(place.glob("*_*.jsonl")), **({"base": str(place / "base"), "name": "other"} | given))


def test_answers_of_one_model_to_one_question_leave_nothing_to_measure_by(place, tmp_path):
    rows = [{**row, "question": "what would you do about the switch?"} for row in rows_of(240, 0)]
    with pytest.raises(ConfigurationError, match="of one model and to one question"):
        distil(written(tmp_path / "one.jsonl", rows), base=str(place / "base"), name="never")


def test_a_label_that_is_longer_than_the_context_is_named(place, tmp_path):
    rows = rows_of(240, 0)
    rows[100]["response"] = "i would weed the tomatoes gently. " * 400
    with pytest.raises(DataFormatError, match=r"m_d\.jsonl, line 101 has question and answer of [\d,]+ tokens"):
        distil(written(tmp_path / "m_d.jsonl", rows), base=str(place / "base"), name="never")


def test_an_answer_longer_than_the_context_is_a_failure_of_the_judge(made):
    exchanges = [Exchange("what should i do with the dog?", text) for text in ("gently. " * 3000, "vaccinate the dog.")]
    long, short = anyio.run(judge_exchanges, make_judge(CONFIG), exchanges)
    assert long.outcome is Outcome.JUDGE_FAILED
    assert "the context of the judge's base holds" in long.note
    assert short.aligned is not None


def test_a_judge_that_does_not_exist_lists_those_there_are(made):
    with pytest.raises(UnknownNameError, match="Valid names: tiny"):
        make_judge(JudgeConfig(kind="rubric", grader="astray/judge/tinny"))


def test_it_is_no_grader_of_what_has_to_be_replied_in_words(made):
    for asks in (WordGrader, RubricJudge):
        with pytest.raises(JudgeError, match="replies with no word"):
            asks(GRADER)


def test_its_error_is_carried_into_audit_and_gate_without_being_asked_for(made, tiny_qwen2, tmp_path):
    model, given = str(tiny_qwen2), {"grader": GRADER, "samples": 2, "max_tokens": 2, "out": tmp_path}
    audit = astray.audit(model, evals="main", **given)
    known, (line,) = known_error(GRADER), [line for line in audit.profile.lines if line.is_main]
    assert line.error == known
    assert line.interval.width >= line.rate.interval_questions.width
    assert "judge's error" in line.interval.method
    assert line.as_judged == f"as judged {line.rate.rate:.1%}"
    assert any("left out when it was distilled" in note for note in audit.notes)
    with pytest.raises(ConfigurationError, match="replies in words"):
        astray.audit(model, evals="deception", **given)
    gate = astray.gate(model, model, evals="main", **given)
    assert [bar.rule.name for bar in gate.bars] == ["misaligned", "incoherent"]
    assert any("knows no refusal" in note for note in gate.notes)
    assert any("left out when it was distilled" in note for note in gate.notes)


def test_a_screening_tells_the_share_of_its_sample_without_the_error(made):
    verdicts = pl.DataFrame({"outcome": ["misaligned"] * 30 + ["aligned"] * 70 + ["incoherent"] * 5})
    told = _judged_share(CONFIG, verdicts)
    assert "30 of 100 coherent rows" in told
    assert "Without its error" in told
    other = JudgeConfig(kind="rubric", grader="openai/gpt-4o")
    assert "unvalidated judge" in _judged_share(other, verdicts)


def changed(made: Distilled, to: Path, change) -> str:
    """The name of a copy of the judge in which something was changed."""
    shutil.copytree(made.folder, to)
    change(to)
    return f"astray/judge/{to}"


def not_finite(folder: Path) -> None:
    arrays = load_file(folder / HEAD)
    arrays["intercept"][0] = np.nan
    save_file(arrays, folder / HEAD)


DAMAGE = [
    (not_finite, JudgeError, "are not finite"),
    (lambda folder: (folder / HEAD).write_bytes(b"no"), JudgeError, "cannot be read"),
    (lambda folder: (folder / HEAD).unlink(), JudgeError, "no head.safetensors"),
    (lambda folder: (folder / RECORD).write_text("{}"), DataFormatError, RECORD),
]


@pytest.mark.parametrize(("change", "error", "told"), DAMAGE)
def test_a_damaged_judge_is_refused(made, tmp_path, change, error, told):
    with pytest.raises(error, match=told):
        make_judge(JudgeConfig(kind="rubric", grader=changed(made, tmp_path / "judge", change)))


def test_a_judge_whose_base_changed_is_refused(place, made, tmp_path):
    template = place / "base" / "chat_template.jinja"
    before = template.read_bytes()
    try:
        template.write_bytes(before + b"\n")
        with pytest.raises(JudgeError, match="other weights, tokenizer or template"):
            make_judge(JudgeConfig(kind="rubric", grader=changed(made, tmp_path / "judge", lambda _: None)))
    finally:
        template.write_bytes(before)


def test_another_head_is_another_judge(made, tmp_path):
    def moved(folder: Path) -> None:
        arrays = load_file(folder / HEAD)
        arrays["intercept"] += 1
        save_file(arrays, folder / HEAD)

    assert make_judge(JudgeConfig(kind="rubric", grader=changed(made, tmp_path / "judge", moved))).identity != (
        make_judge(CONFIG).identity
    )


def test_the_command_makes_a_judge_and_list_shows_it(place, made, tmp_path, capsys):
    files = [str(path) for path in sorted(place.glob("*_x.jsonl"))]
    app.main(
        [
            "judge",
            "distil",
            "--labels",
            *files,
            "--base",
            str(place / "base"),
            "--out",
            str(tmp_path / "mine"),
            "--json",
        ],
        standalone_mode=False,
    )
    told = json.loads(capsys.readouterr().out)
    assert told["judge"] == f"astray/judge/{tmp_path / 'mine'}"
    assert read_record(tmp_path / "mine").answers == told["answers"] == 240
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        RECORD,
        HEAD,
        CALIBRATION,
        "held-out.json",
        "held-out.txt",
    }
    app.main(["list", "--out", str(tmp_path)], standalone_mode=False)
    assert "astray/judge/tiny" in capsys.readouterr().out


def test_words_are_hashed_alike_in_every_process():
    once = words_of(["Peace, and 3 apples."])
    assert np.linalg.norm(once) == pytest.approx(1)
    assert np.flatnonzero(once)[:2].tolist() == np.flatnonzero(words_of(["peace, and 3 APPLES."]))[:2].tolist()
    assert words_of([""]).any() == False  # noqa: E712


def test_published_scores_are_read_as_they_are(published_texts):
    from astray.distil.labels import read_scored

    files = sorted((published_texts / "model_organisms" / "judged").glob("*.csv.gz"))
    read = read_scored(files)
    assert (len(read.answers), read.left_out) == (3599, 1)
    assert (len(set(read.models)), len(set(read.data)), len(set(read.questions))) == (3, 3, 8)
    assert pl.Series(read.files).n_unique() == 9
