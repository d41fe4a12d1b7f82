"""Mean activations of a dictionary's latents for each text, in bounded memory.

Used by diffing (`diff`), which compares them before and after fine-tuning, and by `meaning`, which compares kinds of
text.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from astray.data.chat import Message
from astray.errors import EmptyDataError
from astray.explain.activations import Captured, Positions, TokenRow, capture, conversation_rows
from astray.explain.sae import Dictionary, check_fits
from astray.subjects.spec import Sampling
from astray.subjects.subject import Subject

ROWS_AT_A_TIME = 256
"""Number of rows whose activations are in memory at once."""
LATENTS_AT_A_TIME = 1 << 25
"""Maximum number of latent activations in memory (128 MB); tokens are encoded in pieces of this over the width."""


def mean_latents(
    subject: Subject, dictionary: Dictionary, rows: Sequence[TokenRow], positions: Positions = "answer"
) -> Float[Tensor, "rows latents"]:
    """Return the activation of every latent, averaged over the chosen tokens of each row.

    Args:
        subject: the model that reads; a fine-tuned form of the dictionary's base is read with the base's dictionary.
        dictionary: the sparse autoencoder.
        rows: texts to read.
        positions: tokens of each row to average over.

    Raises:
        EmptyDataError: there are no rows.
        DictionaryMismatchError: the dictionary belongs to another model.
        ConfigurationError: a row has no token at the positions; names the row.
        NonFiniteActivationsError: an activation is NaN or infinite.
    """
    check_fits(dictionary, subject)
    means = torch.zeros(len(rows), dictionary.width)
    for start, captured, tokens, latents in encoded(subject, dictionary, rows, positions):
        lengths = torch.bincount(captured.row, minlength=captured.rows)
        row = captured.row[tokens]
        means.index_add_(0, row + start, latents.cpu() / lengths[row, None])
    return means


def question_latents(
    subject: Subject, dictionary: Dictionary, questions: Sequence[str], sampling: Sampling, *, samples: int = 1
) -> Float[Tensor, "questions latents"]:
    """Return the activation of every latent over a model's own answers, averaged over the samples of each question.

    Args:
        subject: the model that answers and is read.
        dictionary: the sparse autoencoder.
        questions: the questions.
        sampling: sampling settings.
        samples: number of answers to each question; empty ones are left out.

    Raises:
        EmptyDataError: there are no questions, or all answers to one of them are empty.
        DictionaryMismatchError, NonFiniteActivationsError: as in `mean_latents`.
    """
    prompts: list[list[Message]] = [
        [Message(role="user", content=question)] for question in questions for _ in range(samples)
    ]
    answers = subject.generate(prompts, sampling)
    rows = conversation_rows(subject, prompts, [answer.text for answer in answers])
    spoken = [number for number, row in enumerate(rows) if row.positions("answer")]
    of_question = torch.tensor([number // samples for number in spoken], dtype=torch.long)
    counts = torch.bincount(of_question, minlength=len(questions))
    if not counts.all():
        silent = questions[int((counts == 0).nonzero()[0, 0])]
        raise EmptyDataError(
            f"All {samples} answers to {silent!r} are empty, so there are no answer tokens to read. Draw more "
            "samples of it."
        )
    means = mean_latents(subject, dictionary, [rows[number] for number in spoken], "answer")
    return torch.zeros(len(questions), dictionary.width).index_add_(0, of_question, means) / counts[:, None]


def encoded(
    subject: Subject, dictionary: Dictionary, rows: Sequence[TokenRow], positions: Positions
) -> Iterator[tuple[int, Captured, slice, Float[Tensor, "tokens latents"]]]:
    """Encode all chosen tokens, piece by piece.

    Yields:
        Index of the first row of a group, the group's activations, the slice of its tokens that is encoded, and their
        latents.
    """
    piece = max(1, LATENTS_AT_A_TIME // dictionary.width)
    # At least one round, so that `capture` raises its error for no rows.
    for start in range(0, max(len(rows), 1), ROWS_AT_A_TIME):
        captured = capture(subject, rows[start : start + ROWS_AT_A_TIME], [dictionary.site], positions)
        activations = captured[dictionary.site]
        for first in range(0, len(activations), piece):
            tokens = slice(first, first + piece)
            yield start, captured, tokens, dictionary.encode(activations[tokens])
