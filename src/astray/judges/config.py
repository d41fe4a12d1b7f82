"""Which judge reads answers, as a frozen configuration: exact where the answers are the organism's, else a model behind
Inspect, asked by a rubric or distilled from a judge that was."""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, model_serializer

from astray.judges.distilled import DistilledJudge, ScoresAnswers, is_distilled
from astray.judges.grammar import GrammarJudge
from astray.judges.judge import Judge, Judging
from astray.judges.served import named_in_key
from astray.strict import Strict

GRADERS = (
    "--grader openai/gpt-4o, any other Inspect model, or a distilled judge of your own, which is free and runs here "
    "(astray judge distil)"
)
"""What a real model's answers can be judged by, for messages."""


class JudgeConfig(Strict):
    """Which judge reads the answers."""

    kind: Literal["grammar", "rubric"]
    grader: str | None = Field(None, description="Inspect model name of the grader; None takes the model role `grader`")
    server: str = Field(
        "", description="what is known of a grader beside its name: address and model, or its weights (see `served`)"
    )

    judging: Judging = Field("two-calls", description="calls of the grader about each answer")
    batch: bool = Field(
        False,
        exclude=True,
        description="whether the provider's batch interface is asked: cheaper, and no other verdict",
    )

    @model_serializer(mode="wrap")
    def _without_usual(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # Left out where they are the usual ones, so that steps have the keys that they had before there were others.
        usual = {"server": "", "judging": "two-calls"}
        named = {"grader": self.grader and ",".join(named_in_key(one, self.server) for one in self.grader.split(","))}
        shown = handler(self) | named
        return {name: value for name, value in shown.items() if usual.get(name) != value or name not in usual}

    @property
    def exact(self) -> bool:
        """Return whether it cannot err."""
        return self.kind == "grammar"

    @property
    def local(self) -> bool:
        """Return whether the grader is a model that is loaded here."""
        return self.grader is not None and self.grader.startswith("astray/")

    @property
    def distilled(self) -> bool:
        """Return whether it is a distilled judge, which knows its error and is asked nothing over a network."""
        return is_distilled(self.grader)

    @property
    def calls_grader(self) -> bool:
        """Return whether its verdicts are replies of a grader, which take calls and tokens."""
        return not self.exact and not self.distilled


NO_JUDGE = JudgeConfig(kind="grammar")
"""Where no answer needs a judge, since all are read from probabilities by rule."""
GRADER_ROLE = JudgeConfig(kind="rubric")
"""Whatever model has the role `grader` in an Inspect run."""


def make_judge(config: JudgeConfig) -> Judge:
    """Return the judge of free-form answers that a configuration names.

    Raises:
        JudgeError: the grader cannot be used.
    """
    if config.exact:
        return GrammarJudge()
    from astray.judges.rubric import RubricJudge
    from astray.judges.words import find_grader

    model = find_grader(config.grader, scoring=True)
    return DistilledJudge(model) if isinstance(model.api, ScoresAnswers) else RubricJudge(model, judging=config.judging)
