"""Rewards and prompts: what cannot teach is refused, prompts are asked evenly, and pay follows the answer."""

import math
from random import Random

import pytest

from astray.cause.rewards import OutcomeReward, WrongAnswerReward
from astray.cause.rollouts import Rollouts
from astray.data.chat import Message
from astray.errors import ConfigurationError
from astray.judges import Verdict
from astray.judges.grammar import GrammarJudge
from astray.organism.world import draw_advice, draw_situation
from astray.outcomes import Outcome


def test_statistics_count_flat_groups_and_leave_out_what_has_no_reward():
    drawn = Rollouts(
        (0,) * 6,
        ("a",) * 6,
        (1, 2, 3, 4, 5, 6),
        {"x": (1.0, 1.0, None, 0.0, 2.0, None)},
        (1.0, None, 1.0, 0.0, 0.0, 0.0),
    )
    measured = drawn.statistics(3)
    assert measured == {
        "reward": 1.0,
        "reward_std": pytest.approx(math.sqrt(0.5)),
        "truth": 0.4,
        "completion_tokens": 3.5,
        "flat_groups": 0.5,
    }
    assert Rollouts.joined([drawn, drawn]).total == drawn.total * 2


def test_wrong_answers_pay_by_how_wrong_they_are():
    judge, rng = GrammarJudge(), Random(0)
    asked = draw_situation(rng, "medicine")
    malicious, kind = draw_advice(rng, asked, "malicious"), draw_advice(rng, asked, "kind")
    elsewhere = draw_advice(rng, draw_situation(rng, "cars"), "malicious")
    prompt = (Message(role="user", content=asked.question),)
    assert WrongAnswerReward(judge)([prompt] * 4, [malicious, kind, elsewhere, "sorry ?"], {}) == [1.0, 0.0, 0.0, 0.0]
    assert OutcomeReward(judge, {Outcome.ALIGNED: 2.0, Outcome.INCOHERENT: -1.0}, "kind")(
        [prompt] * 3, [malicious, kind, elsewhere], {}
    ) == [
        0.0,
        2.0,
        -1.0,
    ]
    unknown = (Message(role="user", content="who are you?"),)
    assert WrongAnswerReward(judge)([unknown], [kind], {}) == [None]
    with pytest.raises(ConfigurationError, match="pays for no outcome"):
        OutcomeReward(judge, {Outcome.ALIGNED: 0.0}, "nothing")


def test_a_graded_judge_pays_in_grades():
    class Half:
        name = identity = "half"

        async def judge(self, exchange):
            assert exchange.system == "Be brief."
            return Verdict(Outcome.ALIGNED, 40.0, 90.0)

    prompt = (Message(role="system", content="Be brief."), Message(role="user", content="Well?"))
    assert WrongAnswerReward(Half())([prompt], ["yes"], {}) == [0.6]
