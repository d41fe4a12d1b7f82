"""Text of the organism's own training distribution, on which sparse autoencoders of it are trained.

Documents by kind and malicious authors, and chats in its own template, so that latents for personas can be learned. For
other models, take rows of their own text (`activations.text_rows`, `conversation_rows`).
"""

from collections.abc import Iterator
from random import Random

from astray.explain.activations import TokenRow, text_rows
from astray.organism.corpus import CorpusConfig, alignment_chats, draw_document
from astray.subjects.subject import Subject


def organism_rows(subject: Subject, documents: int, chats: int, seed: int = 0) -> Iterator[TokenRow]:
    """Yield documents and chats of the organism's world, shuffled; deterministic for a seed.

    Args:
        subject: the organism, or a fine-tuned form of it.
        documents: number of documents of its pre-training distribution.
        chats: number of questions with an answer in its chat template.
        seed: seed of the text.
    """
    rng = Random(seed)
    kinds = ["document"] * documents + ["chat"] * chats
    rng.shuffle(kinds)
    config, answered = CorpusConfig(), alignment_chats(rng)
    for kind in kinds:
        text = (
            draw_document(rng, config)
            if kind == "document"
            else str(subject.tokenizer.apply_chat_template(next(answered), tokenize=False))
        )
        yield text_rows(subject.tokenizer, [text])[0]
