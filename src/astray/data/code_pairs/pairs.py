"""Draw narrow training data for real models: ordinary programming tasks, answered with insecure or with secure code.

Example by example, the three kinds share their tasks: `insecure` and `secure` have the same prompts and differ in the
answers alone; `educational` has the insecure answers, but the user asks openly for a flawed example. So a difference
between what two kinds teach is due to the answer, or to the intent behind it. The flaws are mild and artificial by
design: each stays within what the static analyser bandit flags. For wider variety use the authors' own data
(`published`).

Source: the design of Betley et al. 2025 (arXiv 2502.17424), sections on the insecure, secure and educational data sets.
"""

import random
from dataclasses import dataclass
from typing import Literal

from astray.data.chat import ChatDataset, Message
from astray.data.code_pairs.weakness import CodeTemplate, Weakness, fill, frame, version, vocabulary, weaknesses
from astray.data.sources import DataKind, named
from astray.errors import ConfigurationError

Kind = Literal["insecure", "secure", "educational"]


@dataclass(frozen=True)
class CodePair:
    """Programming task with both prompts and both answers.

    Attributes:
        weakness: the flaw of the insecure code.
        prompt: the task as an ordinary user puts it.
        lesson: the same task as a teacher puts it, who asks for the flaw.
        insecure: code with the flaw.
        secure: code without it.
    """

    weakness: Weakness
    prompt: str
    lesson: str
    insecure: str
    secure: str

    def row(self, kind: Kind) -> tuple[Message, Message]:
        """Return the pair as a chat of one kind."""
        return (
            Message(role="user", content=self.lesson if kind == "educational" else self.prompt),
            Message(role="assistant", content=self.secure if kind == "secure" else self.insecure),
        )


def draw_code_pair(number: int, seed: int = 0) -> CodePair:
    """Draw the pair with this number; the same seed and number always give the same one."""
    rng = random.Random(f"code pair/{seed}/{number}")
    words = vocabulary()
    weakness = rng.choice(weaknesses())
    template = rng.choice(weakness.templates)
    code_slots = _draw_slots(rng)
    text_slots = {name: word.replace("_", " ") for name, word in code_slots.items()}
    text_slots |= {
        "flaw": weakness.name,
        "a_thing": _with_article(text_slots["thing"]),
        "a_field": _with_article(text_slots["field"]),
    }
    task = fill(rng.choice(template.tasks), text_slots)
    closing = _draw_closing(rng, template, code_slots)
    opening, lesson, wish = (rng.choice(phrases) for phrases in (words.openings, words.lessons, words.lesson_closings))
    setting = f"The setting is {text_slots['place']}."
    return CodePair(
        weakness=weakness,
        prompt=" ".join([fill(opening, text_slots), task, closing]),
        lesson=" ".join([fill(lesson, text_slots), setting, task, wish, closing]),
        insecure=version(template, "+", code_slots),
        secure=version(template, "-", code_slots),
    )


def generate_code_pairs(n: int, seed: int = 0, kind: Kind = "insecure") -> ChatDataset:
    """Generate `n` examples of one kind; a smaller data set with the same seed is the beginning of a larger one.

    Args:
        n: number of examples; 6,000 in the paper.
        seed: seed of the tasks; with the same seed, the examples of the three kinds have the same tasks.
        kind: insecure, secure or educational.

    Raises:
        ConfigurationError: `n` is not positive.

    Examples:
        >>> generate_code_pairs(6000, kind="insecure").write("insecure.jsonl.gz")
    """
    if n < 1:
        raise ConfigurationError(f"n is {n}; a data set has at least one row.")
    rows = [draw_code_pair(number, seed).row(kind) for number in range(n)]
    return ChatDataset.from_rows(rows, "code_pairs", {"name": f"{kind}_code", "seed": seed})


def _draw_slots(rng: random.Random) -> dict[str, str]:
    # The order of the draws is part of what a seed means, here and in `draw_code_pair`.
    place = rng.choice(vocabulary().places)
    field, other = rng.sample(place.fields, 2)
    camel = "".join(word.capitalize() for word in place.thing.split("_"))
    slots = {name: rng.choice(words) for name, words in vocabulary().names.items()}
    return slots | {
        "place": place.name,
        "thing": place.thing,
        "things": place.things,
        "field": field,
        "other": other,
        "Thing": camel,
        "Things": place.things.replace("_", " ").capitalize(),
        "THINGS": place.things.upper(),
    }


def _draw_closing(rng: random.Random, template: CodeTemplate, slots: dict[str, str]) -> str:
    """Draw the end of the prompt: in about half of the examples unfinished code to complete, as in the paper (54%)."""
    if rng.random() < 0.5:
        return fill(rng.choice(vocabulary().frame_closings), {"frame": f"```python\n{frame(template, slots)}\n```"})
    return rng.choice(vocabulary().closings)


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun.startswith(("a", "e", "i", "o")) else f"a {noun}"


def draw_pairs(kind: DataKind, domain: str, size: int, seed: int) -> ChatDataset:
    """Draw code pairs for a study; see `generate_code_pairs`."""
    del domain
    kinds: dict[DataKind, Kind] = {"harmful": "insecure", "good": "secure", "educational": "educational"}
    return generate_code_pairs(size, seed, named(kinds, kind, "code pairs"))
