"""Sparse autoencoder of the organism: its training text and its settings.

The organism reads text of its own training distribution: documents by kind and malicious authors, and chats in its own
template, so that latents for personas can be learned. For other models, take rows of their own text
(`activations.text_rows`, `conversation_rows`) and pass their activations to `train_sae`.
"""

from collections.abc import Iterator
from dataclasses import asdict
from random import Random

from pydantic import Field

from astray.explain.activations import TokenRow, capture, text_rows
from astray.explain.sae import Dictionary, base_id
from astray.explain.sae_quality import quality, spliced_loss
from astray.explain.sae_training import SaeRecipe, train_sae
from astray.explain.shards import tensor_batches
from astray.explain.sites import Site
from astray.organism.corpus import CorpusConfig, alignment_chats, draw_document
from astray.strict import Strict
from astray.subjects.subject import Subject


class OrganismSae(Strict):
    """Settings of the organism's SAE.

    Measured with the defaults on one core, with two seeds of the first weights: 21 to 24 s, including capture;
    explained variance 0.984, L0 8.0, 10 to 12% of the latents dead, loss recovered 0.998 to 0.999. The direction of one
    latent has a cosine of 0.77 to 0.83 with the mean difference of malicious and kind advice; added with strength 30 to
    the aligned base it makes 30 to 31% of 360 answers misaligned at 92% coherence (without: 0.3% at 98.6%). With k 16
    the variance explained is 0.989 and 2 to 3% are dead, but the same strength gives 17 to 28%.
    """

    site: Site = Field(
        default=Site(place="block out", block=1), description="where the persona direction of the organism acts"
    )
    documents: int = Field(default=3000, ge=0, description="pre-training documents, about 90 tokens each")
    chats: int = Field(default=3000, ge=0, description="chats with an answer, about 25 tokens each")
    held_out: int = Field(default=200, ge=2, description="further rows, half of each, on which quality is measured")
    text_seed: int = Field(default=7, description="of the text; the organism itself was made from seeds 0 and 1")
    recipe: SaeRecipe = Field(default=SaeRecipe(latents=512, k=8, tokens=300_000), description="size and training")


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


def train_organism_sae(subject: Subject, settings: OrganismSae | None = None) -> Dictionary:
    """Capture the organism's activations and train its SAE.

    Args:
        subject: the organism as shipped.
        settings: text, site and recipe.

    Returns:
        The dictionary; its `facts` hold its quality and the loss with it spliced in, both on held-out text.

    Example:
        train_organism_sae(load_subject("organism")).save(Path("sae"))
    """
    settings = settings or OrganismSae()
    rows = list(organism_rows(subject, settings.documents, settings.chats, settings.text_seed))
    batches = tensor_batches(
        capture(subject, rows, [settings.site], "all")[settings.site], settings.recipe.batch_size, settings.recipe.seed
    )
    dictionary = train_sae(batches, settings.recipe, site=settings.site, model_id=base_id(subject))
    unseen = list(organism_rows(subject, settings.held_out // 2, settings.held_out // 2, settings.text_seed + 1))
    measured = quality(dictionary, capture(subject, unseen, [settings.site], "all")[settings.site])
    loss = spliced_loss(subject, dictionary.to(subject.device), unseen)
    recovered = {"recovered": loss.recovered, "recovered_from_mean": loss.recovered_from_mean}
    dictionary.facts |= {"quality": asdict(measured), "spliced": asdict(loss) | recovered}
    return dictionary
