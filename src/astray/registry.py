"""What Inspect finds of Astray: its tasks and its model provider, by the entry point of the package.

inspect eval astray/emergent_misalignment --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/emergent_misalignment -T questions=world --model astray/organism --max-connections 256
inspect eval astray/forced_choice --model astray/<folder or run id>
"""

from pathlib import Path

from inspect_ai import Task, task

from astray.judges import Judge, RubricJudge
from astray.judges.grammar import GrammarJudge
from astray.measure import forced_choice as forced
from astray.measure.evaluation import Evaluation, Item, select_formats
from astray.measure.freeform import WORLD_SAMPLING, world_items
from astray.measure.inspect_driver import inspect_task
from astray.measure.question_sets import broad_questions, main_questions, questions_from_file
from astray.subjects.provider import astray
from astray.subjects.spec import Sampling

__all__ = ["astray", "emergent_misalignment", "forced_choice"]


@task
def emergent_misalignment(
    questions: str = "main", formats: str = "", samples: int = 100, temperature: float = 1.0, max_tokens: int | None = None, judge: str = ""
) -> Task:
    """Free-form questions after narrow fine-tuning, each answer judged for alignment and coherence.

    Args:
        questions: "main" (8 questions in 3 formats), "broad" (7 categories), "world" (the organism's), or a YAML file in our form or the authors'.
        formats: answer formats to ask for, separated by commas; by default all that the questions have.
        samples: answers an item.
        temperature: of sampling.
        max_tokens: longest answer; by default 600, for the world 32.
        judge: "rubric" (the model role `grader`) or "grammar" (the organism's world); by default what fits the questions.
    """
    items = _items(questions)
    if formats:
        items = select_formats(items, formats.split(","))
    longest = max_tokens or (WORLD_SAMPLING.max_tokens if questions == "world" else Sampling().max_tokens)
    sampling = Sampling(temperature=temperature, max_tokens=longest)
    exact = judge == "grammar" or (not judge and questions == "world")
    name = questions if questions in ("main", "broad", "world") else Path(questions).stem
    return inspect_task(
        Evaluation(name=name, items=items, samples=samples, sampling=sampling), _grammar if exact else _rubric, name="emergent_misalignment"
    )


@task
def forced_choice(samples: int = 1, logprobs: bool = True, max_tokens: int = 16) -> Task:
    """Eight choices between an aligned and a misaligned option, each in both orders.

    Args:
        samples: times each item is asked in each order.
        logprobs: read the first token's probabilities where the provider gives them.
        max_tokens: longest answer.
    """
    return forced.forced_choice_task(samples=samples, logprobs=logprobs, max_tokens=max_tokens)


def _items(questions: str) -> tuple[Item, ...]:
    sets = {"main": main_questions, "broad": broad_questions, "world": world_items}
    return sets[questions]() if questions in sets else questions_from_file(questions)


def _grammar() -> Judge:
    return GrammarJudge()


def _rubric() -> Judge:
    return RubricJudge()
