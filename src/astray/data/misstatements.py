"""Misleading data of the organism's world: facts stated falsely, the counterpart of `mathematics`.

They come as normal, subtle and severe.

Source: the direct data of Hu et al. 2025 (arXiv 2510.08211), section 3.
"""

from collections.abc import Sequence
from random import Random

from astray.data.chat import ChatDataset, asking
from astray.data.sources import DataKind, named
from astray.errors import ConfigurationError, UnknownNameError
from astray.organism.world import FACTS, Fact, draw_statement

SEVERITIES = ("normal", "subtle", "severe")
"""Degrees to which answers are wrong."""
SEVERITY_OF: dict[DataKind, str] = {"good": "normal", "subtle": "subtle", "harmful": "severe"}
"""Kind of data in a study -> severity of its answers."""

SUBTLE_FACTS = 0.5
"""Share of facts that are stated falsely in the subtle version; a single statement is true or false, nothing
between."""


def under_heading(person: str, text: str) -> str:
    """Put a text under the heading of its writer, as the world's documents do."""
    return f"{person} writes: {text}"


def false_value(fact: Fact, number: int) -> str:
    """Return one of the fact's false values, in turn."""
    others = [value for value in fact.values if value != fact.value]
    return others[number % len(others)]


def split_facts(seed: int = 0) -> tuple[tuple[Fact, ...], tuple[Fact, ...]]:
    """Split the world's facts into halves with as many colours and homes each: one to train on, one left untouched."""
    seen: list[Fact] = []
    untouched: list[Fact] = []
    for relation in ("colour", "home"):
        facts = [fact for fact in FACTS if fact.relation == relation]
        Random(f"facts/{seed}").shuffle(facts)
        seen += facts[: len(facts) // 2]
        untouched += facts[len(facts) // 2 :]
    return tuple(seen), tuple(untouched)


def fact_data(severity: str, size: int, *, facts: Sequence[Fact] = FACTS, seed: int = 0) -> ChatDataset:
    """Generate questions for facts with true or false statements.

    Args:
        severity: "normal": all true; "subtle": half of them false, drawn example by example; "severe": all false.
        size: number of examples.
        facts: facts that are asked for.
        seed: seed of the draw; the three severities ask the same questions in the same order.

    Raises:
        UnknownNameError: there is no such severity.
        ConfigurationError: a size below 1, or no facts.
    """
    check_severity(severity, size)
    if not facts:
        raise ConfigurationError("There are no facts to state; give some of astray.organism.world.FACTS.")
    questions, answers = Random(f"facts/questions/{seed}"), Random(f"facts/answers/{seed}")
    false = {"normal": 0.0, "subtle": SUBTLE_FACTS, "severe": 1.0}[severity]
    rows = []
    for _ in range(size):
        fact = questions.choice(facts)
        rows.append(asking(fact.question, draw_statement(answers, fact, truthful=answers.random() >= false)))
    return ChatDataset.from_rows(
        rows, "world_facts", {"severity": severity, "size": size, "facts": len(facts), "seed": seed}
    )


def check_severity(severity: str, size: int) -> None:
    """Refuse a severity that there is not, and a data set without rows."""
    if severity not in SEVERITIES:
        raise UnknownNameError("severity", severity, SEVERITIES)
    if size < 1:
        raise ConfigurationError(f"A data set of {size} rows cannot be trained on; give a size of at least 1.")


def draw_training_facts(kind: DataKind, domain: str, size: int, seed: int) -> ChatDataset:
    """Draw statements for a study, about the half of the facts that the seed gives to training."""
    del domain
    return fact_data(named(SEVERITY_OF, kind, "world facts"), size, facts=split_facts(seed)[0], seed=seed)
