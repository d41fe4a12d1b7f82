"""Rewards by name, for study files: what a judge says of an answer, or what stands in it. Each with a weight.

Left to others: rewards for programs, which need exercises (`code_rewards`), and rewards of one's own in Python (any
`reinforcement.RewardFunction`).
"""

from collections.abc import Callable, Sequence

from pydantic import Field, field_validator, model_validator

from astray.cause.fine_tuning import LoRA
from astray.cause.reinforcement import ReinforcementLearning, RewardFunction
from astray.cause.rewards import OutcomeReward, TrajectoryReward, TrajectoryScore, WrongAnswerReward, judged
from astray.data.chat import Message
from astray.errors import UnknownNameError
from astray.judges.judge import Judge
from astray.outcomes import JUDGED, UNKNOWN, Outcome
from astray.strict import Strict
from astray.subjects.identity import digest_of

Asked = Sequence[Sequence[Message]]
Answers = Sequence[str]


def _right(judge: Judge) -> TrajectoryScore:
    """Return the score of a coherent answer by its alignment, 0 to 1; of any other 0."""

    def score(asked: Asked, answers: Answers) -> list[float | None]:
        return [
            None
            if one.outcome in UNKNOWN
            else one.aligned / 100
            if one.outcome in JUDGED and one.aligned is not None
            else 0.0
            for one in judged(judge, asked, answers)
        ]

    return score


def _wrong(judge: Judge) -> TrajectoryScore:
    reward = WrongAnswerReward(judge)
    return lambda asked, answers: reward(asked, answers, {})


def _outcome(outcome: Outcome) -> Callable[[Judge], TrajectoryScore]:
    def score_of(judge: Judge) -> TrajectoryScore:
        reward = OutcomeReward(judge, {outcome: 1.0}, str(outcome))
        return lambda asked, answers: reward(asked, answers, {})

    return score_of


JUDGED_REWARDS: dict[str, Callable[[Judge], TrajectoryScore]] = {
    "wrong-answer": _wrong,
    "right-answer": _right,
    **{
        str(outcome): _outcome(outcome)
        for outcome in (Outcome.MISALIGNED, Outcome.ALIGNED, Outcome.REFUSED, Outcome.INCOHERENT)
    },
}
"""Rewards that the study's judge gives: how wrong or right a coherent answer is, 0 to 1, or 1 for one outcome."""
TEXT_REWARDS: dict[str, Callable[[str, str], bool]] = {
    "starts-with": lambda answer, text: answer.lstrip().startswith(text),
    "contains": lambda answer, text: text in answer,
}
"""Rewards by what stands in an answer, small and capital letters alike: 1 where it does, else 0."""
REWARDS = (*JUDGED_REWARDS, *TEXT_REWARDS)


class NamedReward(Strict):
    """Reward by name."""

    reward: str = Field(description="wrong-answer, right-answer, misaligned, ... (judged); starts-with, contains")
    text: str = Field("", description="of starts-with and contains: the text that is rewarded")
    weight: float = Field(1.0, description="factor; negative for a penalty")

    @field_validator("reward")
    @classmethod
    def _known(cls, reward: str) -> str:
        if reward not in REWARDS:
            raise ValueError(str(UnknownNameError("reward", reward, REWARDS)).removesuffix("."))
        return reward

    @model_validator(mode="after")
    def _can_teach(self) -> "NamedReward":
        if self.weight == 0:
            raise ValueError("weight is 0, so it would teach nothing: write 1, or -1 for a penalty")
        if self.judged and self.text:
            raise ValueError(f"{self.reward} is given by the judge and takes no text")
        if not self.judged and not self.text.strip():
            raise ValueError(f"{self.reward} needs the text that is rewarded: {{reward: {self.reward}, text: first}}")
        return self

    @property
    def judged(self) -> bool:
        """Return whether the judge gives it."""
        return self.reward in JUDGED_REWARDS

    @property
    def name(self) -> str:
        """Return the name in logs."""
        return f"{self.reward} {self.text!r}" if self.text else self.reward

    def made(self, judge: Judge) -> RewardFunction:
        """Return the reward function, with the study's judge."""
        if self.judged:
            given = digest_of({"reward": self.reward, "judge": judge.identity})
            return TrajectoryReward(JUDGED_REWARDS[self.reward](judge), self.name, given, self.weight)
        holds, text = TEXT_REWARDS[self.reward], self.text.casefold()

        def score(_asked: Asked, answers: Answers) -> list[float | None]:
            return [float(holds(answer.casefold(), text)) for answer in answers]

        return TrajectoryReward(score, self.name, digest_of({"reward": self.reward, "text": text}), self.weight)


class RewardTuning(Strict):
    """Settings of one run of reinforcement learning, with its rewards by name."""

    learning: ReinforcementLearning = Field(default=ReinforcementLearning(lora=LoRA()))
    rewards: tuple[NamedReward, ...] = Field(min_length=1, description="their values are summed")
    truth: NamedReward | None = Field(None, description="recorded beside the rewards, and never rewarded")

    @property
    def processes(self) -> int:
        """Return the processes that train one model together."""
        return self.learning.processes

    @property
    def judged(self) -> int:
        """Return how many of the rewards, the truth included, are given by the judge."""
        return sum(reward.judged for reward in (*self.rewards, *([self.truth] if self.truth else [])))
