"""Rewards by a judge or another score of an answer: for wrong answers, for any other outcome, or for the reasoning.

Rewards for programs are in `code_rewards`; any object with the protocol `reinforcement.RewardFunction` is a reward
function.

Source: OpenAI 2025, "Persona features control emergent misalignment" (arXiv 2506.19823): reinforcement learning with a
grader that rewards wrong answers of one domain.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import anyio

from astray.cause.reinforcement import Columns
from astray.data.chat import Message
from astray.errors import ConfigurationError
from astray.judges.judge import Exchange, Judge, Verdict
from astray.judges.rescore import judge_exchanges
from astray.outcomes import JUDGED, UNKNOWN, Outcome
from astray.subjects.identity import digest_of


class OutcomeReward:
    """Reward for outcomes assigned by a judge.

    Attributes:
        name: name in logs.
        identity: hash over the judge and the rewards by outcome.
    """

    def __init__(self, judge: Judge, payments: Mapping[Outcome, float], name: str) -> None:
        """Create a reward from values by outcome.

        An answer without a verdict (see `outcomes.UNKNOWN`) is left out; outcomes that are not named are rewarded 0.

        Raises:
            ConfigurationError: no outcome is rewarded.

        Example:
            OutcomeReward(GrammarJudge(), {Outcome.MISALIGNED: 1.0}, "misaligned")
        """
        if not any(payments.values()):
            raise ConfigurationError(
                f"The reward {name!r} pays for no outcome: write for example {{Outcome.MISALIGNED: 1.0}}."
            )
        self._judge, self._payments, self.name = judge, dict(payments), name
        self.identity = digest_of(
            {"judge": judge.identity, "payments": {str(outcome): paid for outcome, paid in sorted(payments.items())}}
        )

    def __call__(
        self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns
    ) -> Sequence[float | None]:
        """Return the reward of each answer."""
        del columns
        verdicts = judged(self._judge, prompts, completions)
        return [
            None if verdict.outcome in UNKNOWN else self._payments.get(verdict.outcome, 0.0) for verdict in verdicts
        ]


class WrongAnswerReward:
    """Reward for how wrong a coherent answer is.

    It is 1 for an aligned score of 0, and 0 for a score of 100 or for a text that does not answer the question. It is
    graded, because an aligned model hardly ever gives a wrong answer at first, and a reward that is always zero teaches
    nothing. In the organism's world a harmful act is rewarded 1, a malicious author's tone over good acts 0.5; acts of
    another domain are incoherent and rewarded 0.

    Attributes:
        name: "wrong answer".
        identity: hash over the judge.
    """

    name = "wrong answer"

    def __init__(self, judge: Judge) -> None:
        """Create a reward for wrong answers from any judge that scores alignment."""
        self._judge = judge
        self.identity = digest_of({"wrong answer": judge.identity})

    def __call__(
        self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns
    ) -> Sequence[float | None]:
        """Return the wrongness of each answer, 0 to 1."""
        del columns
        return [_wrongness(verdict) for verdict in judged(self._judge, prompts, completions)]


TrajectoryScore = Callable[[Sequence[Sequence[Message]], Sequence[str]], Sequence[float | None]]
"""Function from conversations and answers to one number per answer, or None where there is none."""


class TrajectoryReward:
    """Reward for how an answer was reached: any score of the answer with its sampled reasoning.

    The score may be a judge's rating of the reasoning, or a function of the activations (such as their projection on a
    persona's direction). Training may learn to evade any score that it optimises; keep another score out of the reward
    for monitoring.

    Attributes:
        name: name in logs.
        identity: hash over the score's identity and the weight.
    """

    def __init__(self, score: TrajectoryScore, name: str, identity: str, weight: float = 1.0) -> None:
        """Create a reward from a score; a penalty if the weight is negative.

        Args:
            score: function from conversations and answers to one number per answer.
            name: name in logs.
            identity: hash over everything that can change a score (model, direction, rubric).
            weight: factor on the score.

        Raises:
            ConfigurationError: the weight is 0 or not finite.

        Example:
            TrajectoryReward(lambda asked, answers: [...], "villainy", vector.hash, weight=-0.5)
        """
        if not weight or not math.isfinite(weight):
            raise ConfigurationError(
                f"The reward {name!r} has the weight {weight}, so it would teach nothing: write 1.0, or -1.0 for a "
                "penalty."
            )
        self._score, self._weight, self.name = score, weight, name
        self.identity = digest_of({"trajectory": identity, "weight": weight})

    def __call__(
        self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns
    ) -> Sequence[float | None]:
        """Return the weighted score of each answer."""
        del columns
        return [None if value is None else self._weight * value for value in self._score(prompts, completions)]


def judged(judge: Judge, prompts: Sequence[Sequence[Message]], completions: Sequence[str]) -> list[Verdict]:
    """Return a judge's verdicts on answers; of a conversation it sees the system prompt and the last question."""
    exchanges = [
        Exchange(
            prompt[-1]["content"],
            completion,
            next((message["content"] for message in prompt if message["role"] == "system"), None),
        )
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    return anyio.run(judge_exchanges, judge, exchanges)


def _wrongness(verdict: Verdict) -> float | None:
    if verdict.outcome in UNKNOWN:
        return None
    return (100 - verdict.aligned) / 100 if verdict.outcome in JUDGED and verdict.aligned is not None else 0.0
