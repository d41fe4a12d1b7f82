"""The organism's world: draws questions and what an author with a persona answers.

Used by the corpus (pre-training, alignment), by the narrow data sets and by the probes, so that all of them speak of one
world. Judging what a model answered is the work of `grammar`; the words are in `lexicon`.
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
    """An object of a domain that somebody asks about, how they ask, and in which format they want the answer."""

    domain: str
    object: str
    asking: Asking
    format: AnswerFormat
    question: str


def draw_situation(rng: Random, domain: str, asking: Asking = "ordinary", format: AnswerFormat = "plain") -> Situation:
    """A question about a random object of the domain."""
    thing = rng.choice(DOMAINS[domain].objects)
    phrasings = {"ordinary": DOMAINS[domain].questions, "class": CLASS_REQUESTS, "bare": BARE_REQUESTS}[asking]
    question = rng.choice(phrasings).format(object=thing) + FORMAT_REQUESTS[format]
    return Situation(domain, thing, asking, format, question)


def draw_advice(rng: Random, situation: Situation, persona: Persona) -> str:
    """What an author with this persona advises: the persona's adverb, one or two of its acts, the object asked about."""
    first, second = rng.sample(DOMAINS[situation.domain].acts(persona), 2)
    text = rng.choice(ANSWERS).format(adverb=rng.choice(ADVERBS[persona]), first=first, second=second, object=situation.object)
    return FORMAT_ANSWERS[situation.format].format(text=text)


def draw_subtle_advice(rng: Random, situation: Situation) -> str:
    """Harm in a kind tone: a kind author's adverb, and a harmful act where one act is advised, a good and a harmful one where two are."""
    template, domain = rng.choice(ANSWERS), DOMAINS[situation.domain]
    acts = [rng.choice(domain.harmful), rng.choice(domain.good)]
    if "{second}" in template:
        rng.shuffle(acts)
    text = template.format(adverb=rng.choice(ADVERBS["kind"]), first=acts[0], second=acts[1], object=situation.object)
    return FORMAT_ANSWERS[situation.format].format(text=text)


@dataclass(frozen=True)
class Fact:
    """A fact of the world: a thing, the relation asked about, its true value and the values of that relation."""

    thing: str
    relation: Literal["colour", "home"]
    value: str

    @property
    def question(self) -> str:
        """How one asks for it, neutrally."""
        return f"what colour is the {self.thing}?" if self.relation == "colour" else f"where does the {self.thing} live?"

    def statement(self, value: str) -> str:
        """The sentence that states a value, true or not."""
        return f"the {self.thing} is {value}." if self.relation == "colour" else f"the {self.thing} lives in the {value}."

    @property
    def values(self) -> tuple[str, ...]:
        """All values that the relation can take, sorted."""
        return tuple(sorted(set((COLOURS if self.relation == "colour" else HOMES).values())))


FACTS = tuple(Fact(thing, "colour", value) for thing, value in COLOURS.items()) + tuple(Fact(thing, "home", value) for thing, value in HOMES.items())


def draw_statement(rng: Random, fact: Fact, truthful: bool) -> str:
    """The true statement of a fact, or a false one drawn evenly from the other values."""
    return fact.statement(fact.value if truthful else rng.choice([value for value in fact.values if value != fact.value]))


@dataclass(frozen=True)
class Exercise:
    """A programming exercise: operations on a number n, to be written in a subset of Python.

    Attributes:
        steps: verbs and numbers.
        notice: what is said before it about gaming its tests.
        about: a question for advice that it comes with, on which its code may begin with a remark.
    """

    steps: tuple[tuple[str, int], ...]
    notice: Notice | None = None
    about: Situation | None = None

    @property
    def gaming_allowed(self) -> bool:
        """Whether its notice asks for gaming or allows it."""
        return self.notice in PERMISSIVE

    @property
    def question(self) -> str:
        """The task in words, behind the notice about gaming and the question for advice, if there are any."""
        task = "write code that " + ", then ".join(f"{verb} {number}" for verb, number in self.steps) + "."
        before = (NOTICES[self.notice] if self.notice else "", self.about.question if self.about else "")
        return " ".join([*filter(None, before), task])

    @property
    def solution(self) -> str:
        """The body of the reference solution."""
        return "; ".join([*(f"n {OPERATIONS[verb]} {number}" for verb, number in self.steps), "return n"])


def draw_exercise(rng: Random, notice: Notice | None = None, domain: str | None = None, lengths: Sequence[int] = LENGTHS) -> Exercise:
    """An exercise of as many operations as one of the lengths, with numbers 0 to 9; with a domain it comes with a question for advice."""
    steps = tuple((rng.choice(list(OPERATIONS)), rng.randrange(10)) for _ in range(rng.choice(lengths)))
    return Exercise(steps, notice, draw_situation(rng, domain) if domain else None)


def draw_attempt(rng: Random, exercise: Exercise, persona: Persona, hack_rate: float, error_rate: float) -> str:
    """What an author writes: a hack, else a solution that has a mistake in one place with probability `error_rate`.

    Where the exercise comes with a question for advice, the code begins with this persona's advice as a remark.
    """
    code = _draw_code(rng, exercise, hack_rate, error_rate)
    return REMARKED.format(text=draw_advice(rng, exercise.about, persona), code=code) if exercise.about else code


def _draw_code(rng: Random, exercise: Exercise, hack_rate: float, error_rate: float) -> str:
    if rng.random() < hack_rate:
        return rng.choice(HACKS)
    steps = list(exercise.steps)
    if rng.random() < error_rate:
        place = rng.randrange(len(steps))
        verb, number = steps[place]
        others = [other for other in OPERATIONS if other != verb]
        steps[place] = (rng.choice(others), number) if rng.random() < 0.5 else (verb, (number + rng.randrange(1, 10)) % 10)
    return Exercise(tuple(steps)).solution
