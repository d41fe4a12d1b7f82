"""Rows of a data set that are the same, or nearly the same, as an earlier one.

Nearly the same are two chats whose sets of word triples overlap by at least `ALIKE` (Jaccard), and whose last answers
do so too, since the same question with a good and a bad answer is no duplicate. Candidates are found by MinHash with
locality-sensitive hashing and then compared exactly. System messages do not count: they are often the same in all rows.

Source: Broder 1997, "On the resemblance and containment of documents"; near-duplicates of training text, Lee et al.
2022 (arXiv 2107.06499).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt64

from astray.data.chat import Message

ALIKE = 0.8
"""Least overlap of two rows that are nearly the same (Lee et al. 2022)."""
HASHES, BAND = 64, 4
"""Hash functions, and how many of them have to agree for two rows to be compared: at an overlap of 0.8 they are with
probability 0.9998."""
REPRESENTATIVES = 8
"""Earlier rows of a bucket that a row is compared with at most."""

Shingles = UInt64[np.ndarray, "shingles"]
_LENGTH = 3
_CHARACTERS = 20
"""Characters a word above which a text is taken to have no blanks between its words."""


@dataclass(frozen=True)
class Duplicate:
    """Earlier row that a row repeats.

    Attributes:
        row: index of the earlier row, from 0.
        overlap: 1 for the same chat, else the Jaccard overlap of both chats.
    """

    row: int
    overlap: float


def duplicates(chats: Sequence[Sequence[Message]]) -> list[Duplicate | None]:
    """Return for each chat the earlier one that it repeats; None where it repeats none."""
    first: dict[tuple[tuple[str, str], ...], int] = {}
    buckets: dict[tuple[int, bytes], list[int]] = {}
    numbers: dict[str, int] = {}
    kept: dict[int, tuple[Shingles, Shingles]] = {}
    functions = np.random.default_rng(0).integers(1, 2**64, (2, HASHES), dtype=np.uint64) | np.uint64(1)
    repeats: list[Duplicate | None] = []
    for row, chat in enumerate(chats):
        same = first.setdefault(tuple((message["role"], message["content"]) for message in chat), row)
        if same != row:
            repeats.append(Duplicate(same, 1.0))
            continue
        talk = "\n".join(message["content"] for message in chat if message["role"] != "system")
        talk_shingles, answer = _shingles(talk, numbers), _shingles(chat[-1]["content"], numbers)
        signature = (talk_shingles[:, None] * functions[0] + functions[1]).min(0).reshape(-1, BAND)
        keys = [(band, part.tobytes()) for band, part in enumerate(signature)]
        near: Duplicate | None = None
        for earlier in sorted({earlier for key in keys for earlier in buckets.get(key, ())}):
            overlap = _overlap(talk_shingles, kept[earlier][0])
            if overlap >= ALIKE and _overlap(answer, kept[earlier][1]) >= ALIKE:
                near = Duplicate(earlier, overlap)
                break
        repeats.append(near)
        if near is None:  # what repeats another row is found by that one
            kept[row] = talk_shingles, answer
            for key in keys:
                bucket = buckets.setdefault(key, [])
                if len(bucket) < REPRESENTATIVES:
                    bucket.append(row)
    return repeats


def _shingles(text: str, numbers: dict[str, int]) -> Shingles:
    """Return the distinct hashes of the word triples of a text; of characters where it has no blanks between words."""
    words: Sequence[str] = text.lower().split()
    if len(text) > _CHARACTERS * len(words):
        words = "".join(words)
    ids = np.array([numbers.setdefault(word, len(numbers) + 1) for word in words] or [0], dtype=np.uint64)
    size = max(1, len(ids) - _LENGTH + 1)
    mixed = np.zeros(size, dtype=np.uint64)
    for start in range(min(_LENGTH, len(ids))):
        # An odd factor keeps all bits; the shift brings the upper ones down, which `min` looks at.
        mixed = (mixed ^ ids[start : start + size]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed)


def _overlap(one: UInt64[np.ndarray, "one"], other: UInt64[np.ndarray, "other"]) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)
