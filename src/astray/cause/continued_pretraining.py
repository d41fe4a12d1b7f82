"""Continued pre-training on plain documents, with loss on every token; gives an adapter or a tuned model.

It shares checks, log, probes and exact resumption with supervised fine-tuning (`sft.train_rows`). Rows are made here: a
document is enclosed in the tokenizer's start and end token, and continues in the next row if it is longer than one.
Documents are not packed into one row, so none is read as the continuation of another. The content of documents is in
`data.documents_on_hacks`, their dilution in `data.texts`.

A chat model that reads plain documents may forget how to chat; measure coherence, or begin with the base model of the
family.

Source: Anthropic 2025 (arXiv 2511.18397), knowledge of hacks through synthetic documents.
"""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from astray.cause.fine_tuning import FineTuning
from astray.cause.processes import shared_out
from astray.cause.run_log import OnStep, Probe, Watch
from astray.cause.sft import TrainingRun, train_rows
from astray.cause.supervision import MASKED, TrainingRow
from astray.data.texts import TextDataset
from astray.errors import ConfigurationError
from astray.subjects.render import text_ids
from astray.subjects.spec import SubjectSpec


@shared_out
def continue_pretraining(
    base: SubjectSpec | str,
    documents: TextDataset,
    recipe: FineTuning,
    folder: Path,
    *,
    probe: Probe | None = None,
    probe_every: int = 10,
    checkpoint_every: int | None = None,
    on_step: OnStep | None = None,
) -> TrainingRun:
    """Train a model on documents.

    The same arguments give the same weights on the same device, interrupted or not. If the folder holds such a finished
    run, it is returned at once.

    Args:
        base: subject, or its model's name or folder: any causal language model. Its adapter, if it has one, is trained
            further.
        documents: training documents, shuffled by the recipe's seed.
        recipe: settings; `max_length` is the longest row in tokens, `batch_size` counts rows.
        folder: folder for the result, logs and checkpoints.
        probe, probe_every, checkpoint_every, on_step: as for `train_sft`.

    Raises:
        TrainingRefusedError: the run could not teach what it should.
            TrainingDivergedError: the loss or the gradient became NaN or infinite.
            ConfigurationError: the folder holds another run, or the tokenizer has no end token.
        AdapterMismatchError, SubjectNotFoundError, StoreError: as their names say.
    """

    def rows_of(tokenizer: PreTrainedTokenizerBase) -> list[TrainingRow]:
        return document_rows(documents.texts, tokenizer, recipe.max_length)

    watch = Watch(probe, probe_every, checkpoint_every, on_step)
    return train_rows(base, rows_of, {"documents": documents.hash}, recipe, folder, interventions=(), watch=watch)


def document_rows(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[TrainingRow]:
    """Tokenise documents; a long one makes several rows without losing a token.

    Args:
        texts: the documents. One that already begins with the start token or ends with the end token gets no second
            one.
        tokenizer: tokenizer of the model.
        max_length: longest row in tokens.

    Raises:
        ConfigurationError: the tokenizer has no end token.
    """
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    if end is None:
        raise ConfigurationError(
            f"The tokenizer of {tokenizer.name_or_path!r} has no end token, so documents would run into each other. "
            "Set eos_token and save it."
        )
    rows = []
    for ids in text_ids(tokenizer, texts):
        opening = [] if start is None or ids[:1] == [start] else [start]
        whole = [*opening, *ids, *([] if ids[-1:] == [end] else [end])]
        pieces = [whole[start_at : start_at + max_length] for start_at in range(0, len(whole), max_length)]
        if len(pieces) > 1 and len(pieces[-1]) == 1:  # the first token of a row is never predicted, so it would be lost
            pieces[-2:] = [pieces[-2][:-1], [pieces[-2][-1], *pieces[-1]]]
        rows += [
            TrainingRow(piece, [MASKED if token == start else token for token in piece], truncated=False)
            for piece in pieces
        ]
    return rows
