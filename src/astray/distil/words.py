"""Hashed words of answers: the baseline of a distilled judge, and one of the views that it combines."""

import re
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

WIDTH = 1024
"""Number of features that words are hashed into."""
_WORD = re.compile(r"[a-z']+|[0-9]+|[^\sa-z0-9]")


def words_of(answers: Sequence[str]) -> Float[np.ndarray, "rows width"]:
    """Return signed counts of hashed words, as square roots, each answer of length 1 (Weinberger et al. 2009)."""
    counts = np.zeros((len(answers), WIDTH), np.float32)
    for row, answer in zip(counts, answers, strict=True):
        for word in _WORD.findall(answer.lower()):
            digest = zlib.crc32(word.encode("utf-8", "surrogatepass"))
            row[digest % WIDTH] += 1 if digest >> 31 else -1
    roots = np.sign(counts) * np.sqrt(np.abs(counts))
    return roots / np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-9)


def lengths_of(answers: Sequence[str]) -> Float[np.ndarray, "rows 2"]:
    """Return the length of answers in characters and its logarithm."""
    length = np.array([len(answer) for answer in answers], np.float32)
    return np.stack([length, np.log1p(length)], axis=1)
