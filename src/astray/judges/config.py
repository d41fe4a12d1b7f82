"""Which judge reads answers, as a frozen configuration: exact where the answers are the organism's, else a model behind Inspect."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from astray.judges.grammar import GrammarJudge
from astray.judges.judge import Judge


class JudgeConfig(BaseModel):
    """Which judge reads the answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["grammar", "rubric"]
    grader: str | None = Field(None, description="Inspect model name of the grader; None takes the model role `grader`")

    @property
    def exact(self) -> bool:
        """Whether it cannot err."""
        return self.kind == "grammar"


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

    return RubricJudge(config.grader)
