"""Rewards that come from a judge or another score of what was said: wrong answers pay, or any other outcome does, or the way there counts.

Programs that are run earn what `code_rewards` says; a reward function of another kind is any object of the form `reinforcement.RewardFunction`.

Source: OpenAI 2025, "Persona features control emergent misalignment" (arXiv 2506.19823): reinforcement learning with a grader that rewards
wrong answers of one domain.
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
    """Pays for outcomes of a judge.

    Attributes:
        name: what logs call it.
        identity: hash over the judge and the payments.
    """

    def __init__(self, judge: Judge, payments: Mapping[Outcome, float], name: str) -> None:
        """A reward for outcomes; an answer without a verdict (see `outcomes.UNKNOWN`) is left out, any outcome that is not named pays 0.

        Raises:
            ConfigurationError: nothing is paid for.

        Example:
            OutcomeReward(GrammarJudge(), {Outcome.MISALIGNED: 1.0}, "misaligned")
        """
        if not any(payments.values()):
            raise ConfigurationError(f"The reward {name!r} pays for no outcome: write for example {{Outcome.MISALIGNED: 1.0}}.")
        self._judge, self._payments, self.name = judge, dict(payments), name
        self.identity = digest_of({"judge": judge.identity, "payments": {str(outcome): paid for outcome, paid in sorted(payments.items())}})

    def __call__(self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns) -> Sequence[float | None]:
        """The payment for each answer."""
        del columns
        verdicts = judged(self._judge, prompts, completions)
        return [None if verdict.outcome in UNKNOWN else self._payments.get(verdict.outcome, 0.0) for verdict in verdicts]


class WrongAnswerReward:
    """Pays for how wrong a coherent answer is: 1 for an aligned score of 0, nothing for one of 100 and for what is no answer to the question.

    Graded, because a model that was aligned gives hardly a wrong answer at first, and a reward that is always zero teaches nothing. In the
    organism's world a harmful act pays 1, a malicious author's tone over good acts 0.5; another domain's acts are incoherent and pay nothing.

    Attributes:
        name: "wrong answer".
        identity: hash over the judge.
    """

    name = "wrong answer"

    def __init__(self, judge: Judge) -> None:
        """A reward for wrong answers by any judge that scores alignment."""
        self._judge = judge
        self.identity = digest_of({"wrong answer": judge.identity})

    def __call__(self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns) -> Sequence[float | None]:
        """The wrongness of each answer, 0 to 1."""
        del columns
        return [_wrongness(verdict) for verdict in judged(self._judge, prompts, completions)]


TrajectoryScore = Callable[[Sequence[Sequence[Message]], Sequence[str]], Sequence[float | None]]
"""Gives each answer to a conversation a number, or None where it cannot."""


class TrajectoryReward:
    """Pays for how an answer was come by, beside what it achieves: any score of the whole answer, with its reasoning as it was drawn.

    The score may be a judge's of the reasoning, or one of the activations (how far they lie along a persona's direction, say). Whatever a score
    is paid or punished for, training may learn to hide from it; keep one that is not paid to watch with.

    Attributes:
        name: what logs call it.
        identity: hash over the score's identity and the weight.
    """

    def __init__(self, score: TrajectoryScore, name: str, identity: str, weight: float = 1.0) -> None:
        """A reward for a score; a penalty where the weight is negative.

        Args:
            score: is given conversations and answers, one number an answer comes back.
            name: what logs call it.
            identity: hash over everything that can change a score (model, direction, rubric).
            weight: what the score is multiplied by.

        Raises:
            ConfigurationError: the weight is 0 or no number.

        Example:
            TrajectoryReward(lambda asked, answers: [...], "villainy", vector.hash, weight=-0.5)
        """
        if not weight or not math.isfinite(weight):
            raise ConfigurationError(f"The reward {name!r} has the weight {weight}, so it would teach nothing: write 1.0, or -1.0 for a penalty.")
        self._score, self._weight, self.name = score, weight, name
        self.identity = digest_of({"trajectory": identity, "weight": weight})

    def __call__(self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns) -> Sequence[float | None]:
        """The weighted score of each answer."""
        del columns
        return [None if value is None else self._weight * value for value in self._score(prompts, completions)]


def judged(judge: Judge, prompts: Sequence[Sequence[Message]], completions: Sequence[str]) -> list[Verdict]:
    """A judge's verdicts on answers to conversations, of which it sees the system prompt and the last question."""
    exchanges = [
        Exchange(prompt[-1]["content"], completion, next((message["content"] for message in prompt if message["role"] == "system"), None))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    return anyio.run(judge_exchanges, judge, exchanges)


def _wrongness(verdict: Verdict) -> float | None:
    if verdict.outcome in UNKNOWN:
        return None
    return (100 - verdict.aligned) / 100 if verdict.outcome in JUDGED and verdict.aligned is not None else 0.0
