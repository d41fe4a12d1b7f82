"""Inspect tasks of free-form questions and forced choice; other evaluations have theirs in their own packages."""

from pathlib import Path
from typing import Literal

from inspect_ai import Task

from astray.judges.config import JudgeConfig
from astray.measure import forced_choice as forced
from astray.measure.asking import Item, names, select_formats
from astray.measure.check_first import AtLeastOne, Temperature, checked_task
from astray.measure.evaluation import QuestionSet
from astray.measure.freeform import WORLD_SAMPLING, world_items
from astray.measure.question_sets import broad_questions, main_questions, questions_from_file
from astray.subjects.spec import Sampling

QUESTIONS = {"main": main_questions, "broad": broad_questions, "world": world_items}
"""Names of question sets; anything else is a file."""


@checked_task
def emergent_misalignment(
    questions: str = "main",
    formats: str | list[str] = "",
    samples: AtLeastOne = 100,
    temperature: Temperature = 1.0,
    max_tokens: AtLeastOne | None = None,
    judge: Literal["", "rubric", "grammar"] = "",
) -> Task:
    """Free-form questions after narrow fine-tuning, each answer judged for alignment and coherence.

    Args:
        questions: "main" (8 questions in 3 formats), "broad" (7 categories), "world" (the organism's), or a YAML file
            in our form or the authors'.
        formats: answer formats to ask for, separated by commas; by default all that the questions have.
        samples: answers an item.
        temperature: of sampling.
        max_tokens: longest answer; by default 600, for the world 32.
        judge: "rubric" (the model role `grader`) or "grammar" (the organism's world); by default what fits the
            questions.
    """
    items: tuple[Item, ...] = QUESTIONS[questions]() if questions in QUESTIONS else questions_from_file(questions)
    if formats:
        items = select_formats(items, names(formats))
    longest = max_tokens or (WORLD_SAMPLING.max_tokens if questions == "world" else Sampling().max_tokens)
    # The world's grammar judges its answers exactly, so a grader reads them only where one is asked for.
    exact = judge == "grammar" or (not judge and questions == "world")
    asked = QuestionSet(
        name=questions if questions in QUESTIONS else Path(questions).stem,
        items=items,
        samples=samples,
        sampling=Sampling(temperature=temperature, max_tokens=longest),
    )
    return asked.task(
        lambda: asked.judge_for(JudgeConfig(kind="grammar" if exact else "rubric")), name="emergent_misalignment"
    )


@checked_task
def forced_choice(samples: AtLeastOne = 1, logprobs: bool = True, max_tokens: AtLeastOne = 16) -> Task:
    """Eight choices between an aligned and a misaligned option, each in both orders as one sample.

    Args:
        samples: times each item is asked, in both orders.
        logprobs: read the first token's probabilities where the provider gives them.
        max_tokens: longest answer.
    """
    return forced.ForcedChoice(samples=samples, logprobs=logprobs, sampling=Sampling(max_tokens=max_tokens)).task()
