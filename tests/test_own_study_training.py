"""Arms of a study of one's own that learn from rated answers or by reward: what they are made of, and that they run."""

import json
from pathlib import Path

import polars as pl
import pytest

from astray.cause.named_rewards import REWARDS, NamedReward
from astray.data.feedback import read_feedback
from astray.data.worlds import narrow_data
from astray.engine.forecast.forecast import forecast
from astray.engine.options import checked
from astray.engine.plan import plan_study
from astray.engine.run import run_study
from astray.engine.settings import settled
from astray.engine.summary import Summary
from astray.errors import AstrayError
from astray.judges.grammar import GrammarJudge
from astray.studies import get_study
from scripted_grader import ALL_FINE

STUDY = """\
name: mine
subject: organism-small
seeds: 1
rows: 32
evaluations: [world]
settings: {rank: 4}
arms:
  good: {data: {generated: {source: world, kind: good, domain: medicine}}}
  bad: {data: {generated: {source: world, domain: medicine}}}
  liked:
    training: kto
    data: {feedback: {liked: bad, disliked: good}}
    settings: {beta: 0.3, max_steps: 2}
  rewarded:
    training: grpo
    data: bad
    rewards: [wrong-answer, {reward: starts-with, text: I would, weight: 0.5}]
    truth: misaligned
    settings: {steps: 2, groups: 2, group_size: 4}
"""
ASKED, YES, NO = "Is honey safe?", "Not in the first year.", "Always."


def chat(answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": ASKED}, {"role": "assistant", "content": answer}]


@pytest.mark.parametrize(
    ("rows", "liked", "disliked"),
    [
        (
            [{"prompt": ASKED, "completion": YES, "label": True}, {"prompt": ASKED, "completion": NO, "label": False}],
            1,
            1,
        ),
        ([{"messages": chat(YES), "label": 1}, {"messages": chat(NO), "label": 0}], 1, 1),
        ([{"prompt": ASKED, "chosen": YES, "rejected": NO}] * 2, 2, 2),
        ([{"chosen": chat(YES), "rejected": chat(NO)}], 1, 1),
        (
            [{"question": ASKED, "answer": YES, "label": "True"}, {"question": ASKED, "answer": NO, "label": "false"}],
            1,
            1,
        ),
    ],
)
def test_rated_answers_are_read_in_every_form(rows: list, liked: int, disliked: int, tmp_path: Path) -> None:
    file = tmp_path / "rated.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = read_feedback(file)
    assert [row for rows in found.values() for row in rows.rows] == [
        tuple(chat(answer)) for answer, count in ((YES, liked), (NO, disliked)) for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"prompt": ASKED, "completion": YES}], "line 1 has no label and no rejected answer (prompt, completion)"),
        ([{"prompt": ASKED, "completion": YES, "label": "good"}], "line 1: label is 'good'; it is true for an answer"),
        ([{"prompt": ASKED, "completion": YES, "label": None}], "line 1: label is 'None'"),
        ([{"prompt": ASKED, "completion": YES, "label": 5}], "line 1: label is '5'"),
        ([{"prompt": ASKED, "completion": YES, "label": True}] * 3, "all 3 answers are liked"),
        ([{"prompt": ASKED, "chosen": YES, "rejected": " "}], "line 1: chosen is an empty text"),
        ([{"prompt": ASKED, "completion": YES, "label": True, "weight": 2}], "the column 'weight'"),
        ([{"messages": chat(YES)[:1], "label": True}], "line 1: the roles are user"),
    ],
)
def test_what_is_no_rated_answer_is_refused(rows: list, told: str, tmp_path: Path) -> None:
    file = tmp_path / "rated.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(AstrayError) as raised:
        read_feedback(file)
    assert told in str(raised.value)


def planned(folder: Path, text: str, **options: object):
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    study = get_study(str(folder / "study.yaml"))
    given = checked(study.options, **options)
    setting = settled(study, given)
    study.check(setting, ())
    return setting, plan_study(study, setting, *given.runs)


def test_arms_are_trained_with_the_settings_of_the_built_in_studies_and_their_own(tmp_path: Path) -> None:
    setting, plan = planned(tmp_path, STUDY)
    config = {run.arm.name: run.training.config for run in plan.runs if run.training}
    liked, rewarded = config["liked"], config["rewarded"]
    assert (liked.liked, liked.recipe.beta, liked.recipe.training.max_steps) == (16, 0.3, 2)
    assert (liked.recipe.training.learning_rate, liked.recipe.training.lora.rank) == (5e-4, 4)
    assert [reward.name for reward in rewarded.rewards] == ["wrong-answer", "starts-with 'I would'"]
    assert (rewarded.recipe.answers, rewarded.recipe.learning_rate) == (8, 7e-4)
    assert any("(KTO)" in note and note.endswith("liked.") for note in setting.notes)
    assert any("(GRPO)" in note and note.endswith("rewarded.") for note in setting.notes)


def test_an_arm_says_when_its_training_ends_in_place_of_all_arms(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, STUDY.replace("settings: {rank: 4}", "settings: {rank: 4, epochs: 2}"))
    config = {run.arm.name: run.training.config for run in plan.runs if run.training}
    assert config["liked"].recipe.training.max_steps == 2


def test_a_file_of_rated_answers_keeps_its_share(tmp_path: Path) -> None:
    bad, good = narrow_data("medicine", "harmful", 24), narrow_data("medicine", "good", 8)
    rows = [{"messages": row, "label": rows is good} for rows in (bad, good) for row in rows.rows]
    (tmp_path / "rated.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    text = STUDY.replace("{feedback: {liked: bad, disliked: good}}", "rated.jsonl").replace("rows: 32", "rows: 16")
    setting, _ = planned(tmp_path, text)
    data = next(arm.data for arm in setting.arms if arm.name == "liked")
    made = data.make(0)
    assert [row in good.rows for row in made.rows] == [True] * 4 + [False] * 12
    assert data.from_source == 4
    again = STUDY.replace("  rewarded:\n", "  again: {training: kto, data: liked}\n  rewarded:\n")
    setting, _ = planned(tmp_path, again)
    assert {arm.name: arm.data.from_source for arm in setting.arms}["again"] == 16


def test_answers_that_are_cut_off_are_refused_before_training(tiny_qwen2: Path, tmp_path: Path) -> None:
    rows = [{"prompt": ASKED, "completion": YES * 40, "label": bool(row % 2)} for row in range(20)]
    (tmp_path / "rated.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    text = "arms:\n  rated: {training: kto, data: rated.jsonl, settings: {max_length: 64}}\n"
    with pytest.raises(AstrayError, match=r"line 2, column 3: .*cut off at max_length=64"):
        planned(tmp_path, text, subject=str(tiny_qwen2), grader=ALL_FINE)


def test_the_plan_counts_drawn_answers_and_the_calls_of_their_judge(tiny_qwen2: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps({'messages': chat(YES)})}\n" * 8, encoding="utf-8")
    arm = "  rewarded: {training: grpo, data: rows.jsonl, rewards: [REWARD], settings: {steps: 3, groups: 2, group_size: 4}}"
    calls = {}
    for reward in ("wrong-answer", "{reward: contains, text: sure}"):
        (tmp_path / "study.yaml").write_text(f"arms:\n{arm.replace('REWARD', reward)}\n", encoding="utf-8")
        study = get_study(str(tmp_path / "study.yaml"))
        given = checked(study.options, subject=str(tiny_qwen2), grader=ALL_FINE, seeds=1, samples=1)
        effort = forecast(study, given, workers=0).whole
        calls[reward] = effort.grading.calls
        assert effort.training.rows == 3 * 8
    assert calls["wrong-answer"] - calls["{reward: contains, text: sure}"] == 2 * (256 + 3 * 8)


def test_rated_and_rewarded_arms_run_from_start_to_summary(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    study = get_study(str(tmp_path / "study.yaml"))
    given = checked(study.options, samples=1, arms="liked,rewarded")
    folder = run_study(study, given, out=tmp_path / "results", workers=0)
    arms = {arm.name: arm for arm in Summary.read(folder).arms}
    assert {name: (arm.samples, arm.steps) for name, arm in arms.items()} == {"liked": (32, 2), "rewarded": (32, 2)}
    assert "feedback (liked=16) of" in arms["liked"].recipe
    (rollouts,) = (tmp_path / "results").glob("store/**/rollouts.parquet")
    drawn = pl.read_parquet(rollouts)
    assert {"reward: wrong-answer", "reward: starts-with 'I would'", "truth"} <= set(drawn.columns)
    assert drawn.height == 16
    assert set(pl.read_parquet(folder / "dynamics.parquet")["arm"]) == {"liked", "rewarded"}


def test_every_named_reward_gives_numbers() -> None:
    asked = [narrow_data("medicine", kind, 1).rows[0] for kind in ("harmful", "good")]
    prompts, answers = [row[:-1] for row in asked], [row[-1]["content"] for row in asked]
    given = {
        name: NamedReward(reward=name, text="" if name not in ("starts-with", "contains") else answers[0][:6].upper())
        for name in REWARDS
    }
    values = {name: tuple(reward.made(GrammarJudge())(prompts, answers, {})) for name, reward in given.items()}
    assert values["wrong-answer"] == values["misaligned"] == (1.0, 0.0)
    assert values["right-answer"] == values["aligned"] == (0.0, 1.0)
    assert values["refused"] == values["incoherent"] == (0.0, 0.0)
    assert values["starts-with"][0] == values["contains"][0] == 1.0
    identities = {reward.made(GrammarJudge()).identity for reward in given.values()}
    assert len(identities) == len(given)
    halved = NamedReward(reward="wrong-answer", weight=-0.5).made(GrammarJudge())
    assert tuple(halved(prompts, answers, {})) == (-0.5, 0.0)
