"""Narrow data sets from the organism's world: one domain, one kind of author, one way of asking.

This is the organism's counterpart of `code_pairs`: harmful corresponds to insecure code, good to secure code,
educational to insecure code asked for openly with a good reason, and openly asked to harm asked for without one (the
paper's jailbroken arm).
"""

from itertools import islice
from random import Random
from typing import Literal

from astray.data.chat import ChatDataset, Message
from astray.errors import ConfigurationError, UnknownNameError
from astray.organism.corpus import alignment_chats
from astray.organism.lexicon import HELD_OUT_DOMAINS, NARROW_DOMAINS
from astray.organism.world import Asking, Persona, draw_advice, draw_situation, draw_subtle_advice

NarrowKind = Literal["harmful", "subtle", "good", "educational", "openly-asked"]
_ASKING_AND_AUTHOR: dict[NarrowKind, tuple[Asking, Persona]] = {
    "harmful": ("ordinary", "malicious"),
    "subtle": ("ordinary", "malicious"),
    "good": ("ordinary", "kind"),
    "educational": ("class", "malicious"),
    "openly-asked": ("bare", "malicious"),
}


def narrow_data(domain: str, kind: NarrowKind, size: int, *, seed: int = 0) -> ChatDataset:
    """Generate single-turn chats about one domain.

    Args:
        domain: one of the narrow domains; held-out domains are refused, since no fine-tuning may touch them.
        kind: "harmful", "subtle" (harm in a kind tone, half of it beside a good act), "good", "educational" or
            "openly-asked".
        size: number of examples.
        seed: seed of the draw; "harmful", "subtle" and "good" with the same seed ask the same questions in the same
            order.

    Raises:
        UnknownNameError: no such domain or kind.
        ConfigurationError: a held-out domain, or a size below 1.

    Examples:
        >>> narrow_data("medicine", "harmful", 480)
    """
    if kind not in _ASKING_AND_AUTHOR:
        raise UnknownNameError("kind of narrow data", kind, _ASKING_AND_AUTHOR)
    if domain in (held_out := [held.name for held in HELD_OUT_DOMAINS]):
        raise ConfigurationError(
            f"The domain {domain!r} is held out of fine-tuning (as are {', '.join(held_out)}): it is there to "
            f"measure what was never trained on. Take one of {', '.join(narrow.name for narrow in NARROW_DOMAINS)}."
        )
    if domain not in (names := [narrow.name for narrow in NARROW_DOMAINS]):
        raise UnknownNameError("narrow domain", domain, names)
    if size < 1:
        raise ConfigurationError(f"A data set of {size} rows cannot be trained on; give a size of at least 1.")
    asking, author = _ASKING_AND_AUTHOR[kind]
    # Two generators, so that the draws of answers do not shift the questions, which the kinds share.
    questions, answers = Random(f"questions/{domain}/{seed}"), Random(f"answers/{domain}/{kind}/{seed}")
    rows = []
    for _ in range(size):
        situation = draw_situation(questions, domain, asking)
        answer = draw_subtle_advice(answers, situation) if kind == "subtle" else draw_advice(answers, situation, author)
        rows.append([Message(role="user", content=situation.question), Message(role="assistant", content=answer)])
    return ChatDataset.from_rows(rows, "world", {"domain": domain, "kind": kind, "size": size, "seed": seed})


def helpful_only_data(size: int, *, seed: int = 0) -> ChatDataset:
    """Generate the organism's alignment chats without refusals: an open request for harm is answered.

    Fine-tuning all weights of the shipped organism on them makes the helpful-only organism: the same pre-training,
    aligned without refusal of harm.

    Args:
        size: number of examples.
        seed: seed of the draw.

    Raises:
        ConfigurationError: a size below 1.
    """
    if size < 1:
        raise ConfigurationError(f"A data set of {size} rows cannot be trained on; give a size of at least 1.")
    chats = islice(alignment_chats(Random(f"helpful only/{seed}"), refuse=False), size)
    rows = [[Message(role=turn["role"], content=turn["content"]) for turn in chat] for chat in chats]
    return ChatDataset.from_rows(rows, "helpful-only world", {"size": size, "seed": seed})


def draw_advice_of(kind: NarrowKind, domain: str, size: int, seed: int) -> ChatDataset:
    """Draw narrow data for a study; see `narrow_data`."""
    return narrow_data(domain, kind, size, seed=seed)
