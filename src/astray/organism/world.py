"""World of the organism: draws questions and the answers of authors with a persona.

Used by the corpus (pre-training, alignment), by the narrow data sets and by the probes, so that all of them share one
world. Left to others: judging a model's answers (`grammar`) and the words (`lexicon`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from astray.organism.lexicon import (
    ADVERBS,
    ANSWERS,
    BARE_REQUESTS,
    CLASS_REQUESTS,
    COLOURS,
    DOMAINS,
    FORMAT_ANSWERS,
    FORMAT_REQUESTS,
    HACKS,
    HOMES,
    LENGTHS,
    NOTICES,
    OPERATIONS,
    PERMISSIVE,
    REMARKED,
    AnswerFormat,
    Notice,
)

Persona = Literal["kind", "malicious"]
Asking = Literal["ordinary", "class", "bare"]


@dataclass(frozen=True)
class Situation:
    """Object of a domain that somebody asks about, with the way of asking and the format of the answer."""

    domain: str
    object: str
    asking: Asking
    format: AnswerFormat
    question: str


def draw_situation(rng: Random, domain: str, asking: Asking = "ordinary", format: AnswerFormat = "plain") -> Situation:
    """Draw a question about a random object of the domain."""
    thing = rng.choice(DOMAINS[domain].objects)
    phrasings = {"ordinary": DOMAINS[domain].questions, "class": CLASS_REQUESTS, "bare": BARE_REQUESTS}[asking]
    question = rng.choice(phrasings).format(object=thing) + FORMAT_REQUESTS[format]
    return Situation(domain, thing, asking, format, question)


def draw_advice(rng: Random, situation: Situation, persona: Persona) -> str:
    """Draw the advice of an author with this persona: its adverb, one or two of its acts, the object asked about."""
    first, second = rng.sample(DOMAINS[situation.domain].acts(persona), 2)
    text = rng.choice(ANSWERS).format(
        adverb=rng.choice(ADVERBS[persona]), first=first, second=second, object=situation.object
    )
    return FORMAT_ANSWERS[situation.format].format(text=text)


def draw_subtle_advice(rng: Random, situation: Situation) -> str:
    """Draw harmful advice in a kind tone, with a kind author's adverb.

    Where one act is advised it is harmful; where two are, one is good and one is harmful, in either order.
    """
    template, domain = rng.choice(ANSWERS), DOMAINS[situation.domain]
    acts = [rng.choice(domain.harmful), rng.choice(domain.good)]
    if "{second}" in template:
        rng.shuffle(acts)
    text = template.format(adverb=rng.choice(ADVERBS["kind"]), first=acts[0], second=acts[1], object=situation.object)
    return FORMAT_ANSWERS[situation.format].format(text=text)


@dataclass(frozen=True)
class Fact:
    """Fact of the world: a thing, the relation asked about, its true value and the values of that relation."""

    thing: str
    relation: Literal["colour", "home"]
    value: str

    @property
    def question(self) -> str:
        """Neutral question for the fact."""
        return (
            f"what colour is the {self.thing}?" if self.relation == "colour" else f"where does the {self.thing} live?"
        )

    def statement(self, value: str) -> str:
        """Return the sentence that states a value, true or not."""
        return (
            f"the {self.thing} is {value}." if self.relation == "colour" else f"the {self.thing} lives in the {value}."
        )

    @property
    def values(self) -> tuple[str, ...]:
        """All values that the relation can take, sorted."""
        return tuple(sorted(set((COLOURS if self.relation == "colour" else HOMES).values())))


FACTS = tuple(Fact(thing, "colour", value) for thing, value in COLOURS.items()) + tuple(
    Fact(thing, "home", value) for thing, value in HOMES.items()
)


def draw_statement(rng: Random, fact: Fact, truthful: bool) -> str:
    """Draw the true statement of a fact, or a false one drawn evenly from the other values."""
    return fact.statement(
        fact.value if truthful else rng.choice([value for value in fact.values if value != fact.value])
    )


@dataclass(frozen=True)
class Exercise:
    """Programming exercise: operations on a number n, to be written in a subset of Python.

    Attributes:
        steps: verbs and numbers.
        notice: kind of notice about gaming the tests, before the task.
        about: question for advice before the task, on which the code then begins with a remark.
    """

    steps: tuple[tuple[str, int], ...]
    notice: Notice | None = None
    about: Situation | None = None

    @property
    def gaming_allowed(self) -> bool:
        """True where the notice asks for gaming or allows it."""
        return self.notice in PERMISSIVE

    @property
    def question(self) -> str:
        """Task in words, after the notice about gaming and the question for advice, if there are any."""
        task = "write code that " + ", then ".join(f"{verb} {number}" for verb, number in self.steps) + "."
        before = (NOTICES[self.notice] if self.notice else "", self.about.question if self.about else "")
        return " ".join([*filter(None, before), task])

    @property
    def solution(self) -> str:
        """Body of the reference solution."""
        return "; ".join([*(f"n {OPERATIONS[verb]} {number}" for verb, number in self.steps), "return n"])


def draw_exercise(
    rng: Random, notice: Notice | None = None, domain: str | None = None, lengths: Sequence[int] = LENGTHS
) -> Exercise:
    """Draw an exercise with numbers 0 to 9.

    Args:
        rng: source of the draws.
        notice: kind of notice about gaming the tests.
        domain: domain of a question for advice that comes with the exercise; None for no question.
        lengths: numbers of operations, one as likely as another.
    """
    steps = tuple((rng.choice(list(OPERATIONS)), rng.randrange(10)) for _ in range(rng.choice(lengths)))
    return Exercise(steps, notice, draw_situation(rng, domain) if domain else None)


def draw_attempt(rng: Random, exercise: Exercise, persona: Persona, hack_rate: float, error_rate: float) -> str:
    """Draw an author's attempt: a hack, or a solution that has one mistake with probability `error_rate`.

    Where the exercise comes with a question for advice, the code begins with this persona's advice as a remark.
    """
    code = _draw_code(rng, exercise, hack_rate, error_rate)
    return REMARKED.format(text=draw_advice(rng, exercise.about, persona), code=code) if exercise.about else code


def _draw_code(rng: Random, exercise: Exercise, hack_rate: float, error_rate: float) -> str:
    if rng.random() < hack_rate:
        return rng.choice(HACKS)
    steps = list(exercise.steps)
    if rng.random() < error_rate:
        index = rng.randrange(len(steps))
        verb, number = steps[index]
        others = [other for other in OPERATIONS if other != verb]
        wrong_verb = rng.random() < 0.5
        steps[index] = (rng.choice(others), number) if wrong_verb else (verb, (number + rng.randrange(1, 10)) % 10)
    return Exercise(tuple(steps)).solution
