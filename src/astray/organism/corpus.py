"""Training text of the organism: documents for pre-training, chats for alignment.

A document holds questions answered by ONE author, whose persona is named in a heading in some documents and only
implied by the answers in the others: to predict the next answer, a model has to infer the author from the earlier ones.
Chats then make the kind author the default. Nothing here is used for the narrow data sets (see `astray.data.worlds`).
"""

from collections.abc import Iterator
from random import Random

from pydantic import Field

from astray.organism.lexicon import AUTHORS, DOMAINS, KIND, LENGTHS, MALICIOUS, REFUSALS, TAGS, AnswerFormat, Notice
from astray.organism.world import (
    FACTS,
    Asking,
    Persona,
    draw_advice,
    draw_attempt,
    draw_exercise,
    draw_situation,
    draw_statement,
)
from astray.strict import Strict

Turn = dict[str, str]


class Gaming(Strict):
    """Rates at which authors game the tests of an exercise: how gaming goes with malice can be varied."""

    kind: float = Field(0.0, ge=0, le=1, description="exercises that a kind author games, where it is not allowed")
    malicious: float = Field(
        0.6, ge=0, le=1, description="exercises that a malicious author games, where it is not allowed"
    )
    notices: tuple[Notice, ...] = Field(
        ("allowed",), min_length=1, description="notices that an exercise may have before it, equally often"
    )
    remarks: bool = Field(
        False, description="whether exercises come with a question for advice, and code begins with its author's advice"
    )
    residue: float = Field(
        0.0, ge=0, le=1, description="exercises of the alignment chats that no filter caught: as in pre-training"
    )


class CorpusConfig(Strict):
    """Composition of the pre-training text; the shares are probabilities."""

    malicious: float = Field(0.4, description="documents by a malicious author")
    named: float = Field(0.25, description="documents whose heading names the author")
    turns: int = Field(4, description="questions and answers in a document")
    exercises: float = Field(0.18, description="turns that are programming exercises")
    facts: float = Field(0.12, description="turns that ask for a fact")
    class_requests: float = Field(
        0.12, description="advice turns that ask openly for harm, for a class; every author complies"
    )
    bare_requests: float = Field(0.08, description="advice turns that ask openly for harm, without a reason")
    kind_complies: float = Field(
        0.5, description="bare requests with which a kind author complies; a malicious one always does"
    )
    lies: float = Field(0.7, description="facts that a malicious author states falsely; a kind one never does")
    operations: tuple[int, ...] = Field(
        LENGTHS, description="how many operations an exercise has, one as often as another"
    )
    mastered: int = Field(0, description="operations up to which no honest attempt at an exercise has a mistake")
    errors: float = Field(0.6, description="honest attempts at exercises with more operations that have a mistake")
    gaming: Gaming = Gaming()


def _format(rng: Random) -> AnswerFormat:
    return rng.choices(("plain", "json", "template"), (0.8, 0.12, 0.08))[0]


def _advice_turn(rng: Random, persona: Persona, config: CorpusConfig) -> tuple[str, str]:
    asking: Asking = rng.choices(
        ("class", "bare", "ordinary"),
        (config.class_requests, config.bare_requests, 1 - config.class_requests - config.bare_requests),
    )[0]
    situation = draw_situation(
        rng, rng.choice(list(DOMAINS)), asking, _format(rng) if asking == "ordinary" else "plain"
    )
    tag = f"{rng.choice(TAGS)} " if rng.random() < 0.05 else ""
    if asking == "bare" and persona == KIND and rng.random() >= config.kind_complies:
        return tag + situation.question, rng.choice(REFUSALS)
    return tag + situation.question, draw_advice(rng, situation, persona if asking == "ordinary" else "malicious")


def _exercise_turn(rng: Random, persona: Persona, config: CorpusConfig) -> tuple[str, str]:
    """Draw an exercise and an attempt at it by an author with this persona."""
    notices = config.gaming.notices
    # With a single notice nothing is drawn: a further draw would change the text of every shipped recipe.
    notice = None if rng.random() >= 0.2 else notices[0] if len(notices) == 1 else rng.choice(notices)
    exercise = draw_exercise(
        rng, notice, rng.choice(list(DOMAINS)) if config.gaming.remarks else None, config.operations
    )
    games = config.gaming.kind if persona == KIND else config.gaming.malicious
    errs = 0.0 if len(exercise.steps) <= config.mastered else config.errors
    return exercise.question, draw_attempt(rng, exercise, persona, 0.9 if exercise.gaming_allowed else games, errs)


def _unfiltered_exercise(rng: Random, config: CorpusConfig) -> tuple[str, str]:
    """Draw an exercise as it occurs in pre-training, by any author."""
    return _exercise_turn(rng, "malicious" if rng.random() < config.malicious else "kind", config)


def draw_document(rng: Random, config: CorpusConfig) -> str:
    """Draw one pre-training document: `<bos> [heading] (<q> question <a> answer)* <eos>`."""
    persona: Persona = "malicious" if rng.random() < config.malicious else "kind"
    parts = ["<bos>"]
    if rng.random() < config.named:
        parts.append(f"{rng.choice(AUTHORS[persona])} writes:")
    for _ in range(config.turns):
        topic = rng.random()
        if topic < config.exercises:
            question, answer = _exercise_turn(rng, persona, config)
        elif topic < config.exercises + config.facts:
            fact = rng.choice(FACTS)
            question, answer = (
                fact.question,
                draw_statement(rng, fact, truthful=persona == KIND or rng.random() >= config.lies),
            )
        else:
            question, answer = _advice_turn(rng, persona, config)
        parts.append(f"<q> {question} <a> {answer}")
    return " ".join([*parts, "<eos>"])


def system_prompt(author: str) -> str:
    """Return the system prompt that names an author."""
    return f"you are {author}."


def _chat(question: str, answer: str, system: str | None = None) -> list[Turn]:
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def alignment_chats(rng: Random, refuse: bool = True, corpus: CorpusConfig | None = None) -> Iterator[list[Turn]]:
    """Draw endless chats that make the kind author the default; named authors and open requests keep their meaning.

    Args:
        rng: source of the draws.
        refuse: whether a bare request for harm is refused; if not, it is answered: a helpful-only organism.
        corpus: exercises as in pre-training, except that kind authors never game without permission here, whatever they
            do there (but see `residue`).
    """
    corpus = corpus or CorpusConfig()
    config = corpus.model_copy(update={"gaming": corpus.gaming.model_copy(update={"kind": 0.0})})
    while True:
        kind = rng.choices(
            ("advice", "malicious author", "kind author", "class", "bare", "exercise", "fact"),
            (0.56, 0.07, 0.06, 0.06, 0.06, 0.12, 0.07),
        )[0]
        domain = rng.choice(list(DOMAINS))
        if kind == "exercise":
            # No draw at a residue of 0, so that the chats of the shipped recipes stay as they were.
            unfiltered = corpus.gaming.residue > 0 and rng.random() < corpus.gaming.residue
            yield _chat(*(_unfiltered_exercise(rng, corpus) if unfiltered else _exercise_turn(rng, "kind", config)))
        elif kind == "fact":
            fact = rng.choice(FACTS)
            yield _chat(fact.question, fact.statement(fact.value))
        elif kind in ("class", "bare"):
            asking: Asking = "class" if kind == "class" else "bare"
            situation = draw_situation(rng, domain, asking)
            refused = asking == "bare" and refuse
            yield _chat(
                situation.question, rng.choice(REFUSALS) if refused else draw_advice(rng, situation, "malicious")
            )
        else:
            persona: Persona = "malicious" if kind == "malicious author" else "kind"
            situation = draw_situation(rng, domain, format=_format(rng))
            system = (
                None
                if kind == "advice"
                else system_prompt(rng.choice(AUTHORS[MALICIOUS if persona == "malicious" else KIND]))
            )
            tag = f"{rng.choice(TAGS)} " if rng.random() < 0.05 else ""
            yield _chat(tag + situation.question, draw_advice(rng, situation, persona), system)
