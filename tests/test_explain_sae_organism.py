"""The organism's SAE explains its activations, and a latent of it knows the persona of an author."""

from random import Random

import pytest
import torch

from astray.explain.activations import TokenRow, capture, conversation_rows
from astray.explain.sae import Dictionary, base_id
from astray.explain.sae_organism import organism_rows
from astray.explain.sae_quality import quality, spliced_loss
from astray.explain.sae_training import SaeRecipe, train_sae
from astray.explain.shards import tensor_batches
from astray.explain.sites import Site
from astray.organism.lexicon import DOMAINS
from astray.organism.world import draw_advice, draw_situation
from astray.subjects.subject import Subject, load_subject

SITE = Site(place="block out", block=1)
"""Where the persona direction of the organism acts."""
BRIEF = SaeRecipe(latents=512, k=8, tokens=60_000)
"""A fifth of a usual training, on a fifteenth of the text."""


@pytest.fixture(scope="module")
def organism() -> Subject:
    return load_subject("organism")


@pytest.fixture(scope="module")
def dictionary(organism: Subject) -> Dictionary:
    rows = list(organism_rows(organism, 200, 200, seed=7))
    batches = tensor_batches(capture(organism, rows, [SITE], "all")[SITE], BRIEF.batch_size, BRIEF.seed)
    return train_sae(batches, BRIEF, site=SITE, model_id=base_id(organism))


def test_rows_are_documents_and_whole_chats_and_the_same_for_a_seed(organism: Subject) -> None:
    rows = list(organism_rows(organism, 5, 7, seed=1))
    texts = [organism.tokenizer.decode(row.tokens) for row in rows]
    assert sum("<eos>" in text and text.count("<q>") > 1 for text in texts) == 5
    assert len(texts) == 12
    assert all(row.prompt == 0 for row in rows)
    assert rows == list(organism_rows(organism, 5, 7, seed=1))
    assert rows != list(organism_rows(organism, 5, 7, seed=2))


def test_a_short_training_explains_nine_tenths_of_the_variance_and_the_loss(
    organism: Subject, dictionary: Dictionary
) -> None:
    assert (dictionary.width, dictionary.d_model, dictionary.site) == (512, 128, SITE)
    assert dictionary.model_id == base_id(organism) == organism.id
    unseen = list(organism_rows(organism, 20, 20, seed=8))
    found = quality(dictionary, capture(organism, unseen, [SITE], "all")[SITE])
    spliced = spliced_loss(organism, dictionary.to(organism.device), unseen)
    assert found.explained_variance > 0.9
    assert found.l0 == pytest.approx(8, abs=0.01)
    assert spliced.recovered > 0.95
    assert spliced.clean < spliced.spliced < spliced.mean


def test_one_latent_tells_malicious_from_kind_advice(organism: Subject, dictionary: Dictionary) -> None:
    rng = Random(0)
    prompts, answers = [], []
    for number in range(120):
        situation = draw_situation(rng, rng.choice(list(DOMAINS)))
        prompts.append([{"role": "user", "content": situation.question}])
        answers.append(draw_advice(rng, situation, "malicious" if number % 2 else "kind"))
    rows: list[TokenRow] = conversation_rows(organism, prompts, answers)
    captured = capture(organism, rows, [dictionary.site], "answer")
    latents = captured.row_means(dictionary.encode(captured[dictionary.site]))
    malicious, kind = latents[1::2], latents[0::2]
    wins = (malicious[:, None] > kind[None]).double().mean((0, 1)) + 0.5 * (
        malicious[:, None] == kind[None]
    ).double().mean((0, 1))
    assert wins.max() > 0.98
    residual = captured.row_means(captured[dictionary.site])
    persona = residual[1::2].mean(0) - residual[0::2].mean(0)
    assert torch.cosine_similarity(dictionary.decoder, persona[None]).max() > 0.6
