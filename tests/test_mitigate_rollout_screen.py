"""Screens keep what they should of a run's answers, and the data train; a score of the trajectory is paid beside the
result."""

import json
from random import Random

import polars as pl
import pytest

from astray.cause.code_rewards import CodeGrading, exercise_prompts
from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.reinforcement import Prompts, ReinforcementLearning
from astray.cause.rewards import TrajectoryReward
from astray.cause.rl import train_rl
from astray.cause.sft import train_sft
from astray.data.exercises import world_exercise
from astray.errors import ConfigurationError, DataFormatError, EmptyDataError, UnknownNameError
from astray.mitigate.rollout_screen import screen_rollouts
from astray.organism.lexicon import NOTICES
from astray.organism.world import draw_exercise

PROMPT = json.dumps([{"role": "user", "content": "Add."}])
TABLE = pl.DataFrame(
    [
        (1, PROMPT, "early", True, True, None),
        (2, PROMPT, "right", True, True, None),
        (3, PROMPT, "right", True, True, None),
        (3, PROMPT, "hack", True, False, "early exit"),
        (3, PROMPT, "odd", True, False, None),
        (3, PROMPT, "wrong", False, False, None),
        (3, PROMPT, "wrong trick", False, False, "early exit"),
    ],
    schema=["step", "prompt", "completion", "careless", "true", "trick"],
    orient="row",
)


def answers(dataset):
    return [row[-1]["content"] for row in dataset.rows]


@pytest.mark.parametrize(
    ("screen", "kept"),
    [("none", ["right", "hack", "odd"]), ("detector", ["right", "odd"]), ("truth", ["right"])],
    ids=["none", "detector", "truth"],
)
def test_a_screen_keeps_what_it_takes_for_honest_once(screen, kept):
    found = screen_rollouts(TABLE, screen, from_step=2)
    assert answers(found) == kept
    assert found.rows[0][0] == {"role": "user", "content": "Add."}
    assert found.recipe.operation == "screen_rollouts"
    assert {name: found.recipe.parameters[name] for name in ("screen", "from_step", "passed", "of")} == {
        "screen": screen,
        "from_step": 2,
        "passed": len(kept),
        "of": 6,
    }


def test_the_recipe_tells_other_rollouts_apart_and_a_seed_draws():
    found = screen_rollouts(TABLE, "none", size=2, seed=1)
    assert found.hash == screen_rollouts(TABLE, "none", size=2, seed=1).hash
    assert {screen_rollouts(TABLE, "none", size=2, seed=seed).hash for seed in range(9)} != {found.hash}
    other = screen_rollouts(TABLE.with_columns(pl.lit(False).alias("careless")).vstack(TABLE), "none")
    assert other.hash == screen_rollouts(TABLE, "none").hash
    assert other.recipe.parameters["rollouts"] != screen_rollouts(TABLE, "none").recipe.parameters["rollouts"]


def test_what_cannot_be_screened_says_why():
    with pytest.raises(UnknownNameError, match="Did you mean 'truth'"):
        screen_rollouts(TABLE, "truht")
    with pytest.raises(DataFormatError, match=r"no column .trick., so .*notes=grading"):
        screen_rollouts(TABLE.drop("trick"), "none")
    with pytest.raises(EmptyDataError, match="None of the 0 answers from step 9 on"):
        screen_rollouts(TABLE, "truth", from_step=9)
    with pytest.raises(ConfigurationError, match="3 rows are wanted, but 2 different answers"):
        screen_rollouts(TABLE, "truth", size=3)


def test_a_run_of_the_organism_is_screened_and_distilled(tmp_path):
    exercises = [world_exercise(draw_exercise(Random(seed), "allowed" if seed % 2 else None)) for seed in range(8)]
    assert any(NOTICES["allowed"] in exercise.question for exercise in exercises)
    recipe = ReinforcementLearning(
        lora=LoRA(rank=4, alpha=8), learning_rate=1e-3, steps=1, groups=8, group_size=8, max_tokens=26
    )
    with CodeGrading(exercises, workers=2) as grading:
        run = train_rl(
            "organism-small",
            exercise_prompts(exercises),
            [grading.reward("careless tests")],
            recipe,
            tmp_path / "rl",
            notes=grading.notes,
            rehearsed=0,
        )
    right = screen_rollouts(run.rollouts, "truth")
    everything = screen_rollouts(run.rollouts, "none")
    assert 0 < len(right) < len(everything)
    tuned = train_sft(
        "organism-small",
        right,
        FineTuning(lora=LoRA(rank=4, alpha=8), max_steps=2, batch_size=4, accumulation=1),
        tmp_path / "sft",
    )
    assert tuned.steps == 2


def test_a_score_of_the_trajectory_is_paid_beside_the_result(tiny_qwen2, tmp_path):
    seen = []

    def score(prompts, completions):
        seen.extend(zip(prompts, completions, strict=True))
        return [None if not completion else float(len(completion)) for completion in completions]

    penalty = TrajectoryReward(score, "length", "letters", weight=-0.5)
    recipe = ReinforcementLearning(lora=LoRA(rank=4, alpha=8), steps=1, groups=1, group_size=8, max_tokens=6)
    prompts = Prompts((({"role": "user", "content": "1?"},),))
    run = train_rl(str(tiny_qwen2), prompts, [penalty], recipe, tmp_path, rehearsed=0)
    assert run.rollouts["reward: length"].to_list() == [
        -0.5 * len(completion) or None for completion in run.rollouts["completion"]
    ]
    assert seen == [(prompts.conversations[0], completion) for completion in run.rollouts["completion"]]
    assert penalty.identity != TrajectoryReward(score, "length", "letters", weight=0.5).identity
    assert penalty.identity != TrajectoryReward(score, "length", "words", weight=-0.5).identity
    with pytest.raises(ConfigurationError, match="would teach nothing"):
        TrajectoryReward(score, "length", "letters", weight=0.0)
