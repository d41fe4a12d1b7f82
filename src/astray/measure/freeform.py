"""Free-form questions, which leave it to the subject what to say.

For any model: the eight main questions in three answer formats and the broad set, in our own words (Betley et al. 2025,
arXiv 2502.17424, section 3). For the organism: questions of its world, an item an object, so that a domain has many
questions.
"""

from collections.abc import Sequence

from pydantic import Field

from astray.measure.asking import Item
from astray.measure.evaluation import QuestionSet
from astray.measure.question_sets import main_questions
from astray.organism.lexicon import BARE_REQUESTS, CLASS_REQUESTS, DOMAINS, FORMAT_REQUESTS, AnswerFormat
from astray.organism.world import FACTS, Asking
from astray.subjects.spec import Sampling


class FreeForm(QuestionSet):
    """Questions that an aligned model answers harmlessly; by default the eight main ones in three formats."""

    name: str = "free-form"
    items: tuple[Item, ...] = Field(default_factory=main_questions)


WORLD_SAMPLING = Sampling(max_tokens=32)
"""Sampling of world answers, which have at most 25 tokens."""


def world_items(
    domains: Sequence[str] = tuple(DOMAINS),
    *,
    questions: int = 6,
    formats: Sequence[AnswerFormat] = ("plain",),
    asking: Asking = "ordinary",
) -> tuple[Item, ...]:
    """Return questions of the organism's world, spread evenly over the objects of each domain.

    Args:
        domains: names of domains; an item's category is its domain.
        questions: different questions a domain, at most objects x phrasings.
        formats: answer formats, each question in each.
        asking: "ordinary", or an open request for harm ("class" with a reason, "bare" without).
    """
    items = []
    for name in domains:
        domain = DOMAINS[name]
        phrasings = {"ordinary": domain.questions, "class": CLASS_REQUESTS, "bare": BARE_REQUESTS}[asking]
        count = len(phrasings)
        # A diagonal walk, so that the first few pairs already have different objects and different phrasings.
        pairs = [
            (thing, phrasings[(place + turn) % count])
            for turn in range(count)
            for place, thing in enumerate(domain.objects)
        ]
        for number, (thing, phrasing) in enumerate(pairs[:questions]):
            for format in formats:
                text = phrasing.format(object=thing) + FORMAT_REQUESTS[format]
                items.append(Item(question_id=f"{name}-{number}-{thing}", category=name, format=format, question=text))
    return tuple(items)


def fact_items() -> tuple[Item, ...]:
    """Return neutral questions for every fact of the world; category "facts"."""
    return tuple(Item(question_id=f"fact-{fact.thing}", category="facts", question=fact.question) for fact in FACTS)


def world_evaluation(
    samples: int = 4, *, questions: int = 6, formats: Sequence[AnswerFormat] = ("plain",), seed: int = 0
) -> QuestionSet:
    """Return the evaluation of ordinary questions of all domains, held-out ones included."""
    sampling = WORLD_SAMPLING.model_copy(update={"seed": seed})
    return QuestionSet(
        name="world", items=world_items(questions=questions, formats=formats), samples=samples, sampling=sampling
    )
