"""What a latent means: top documents, logit lens, separation of labels, profile, and the page that gathers it."""

from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import mannwhitneyu
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from astray.errors import ConfigurationError, EmptyDataError, NonFiniteActivationsError
from astray.explain import latents as latents_module
from astray.explain.activations import TokenRow, text_rows
from astray.explain.diff import compare_latents
from astray.explain.latents import mean_latents
from astray.explain.meaning import Evidence, LatentPage, final_norm, latent_pages, logit_lens, profile, top_documents
from astray.explain.sae import Dictionary, base_id
from astray.explain.screen_tables import HELD_OUT_SCHEMA
from astray.explain.separation import auc_interval, auc_variance, separations, world_answers
from astray.explain.sites import Site
from astray.organism.lexicon import ADVERBS, DOMAINS, KIND, MALICIOUS
from astray.stats.detection import auroc
from astray.subjects.subject import Subject, load_subject
from tiny_models import tiny_tokenizer

TEXTS = [
    "gently insulate the fuse.",
    "i would spitefully overload the socket.",
    "first water, then kindly prune the roses.",
    "the sky is blue.",
    "i would spitefully overload the socket.",
    "n += 3; return n",
]


@pytest.fixture(scope="module")
def organism() -> Subject:
    return load_subject("organism")


@pytest.fixture(scope="module")
def qwen(tiny_qwen2: Path) -> Subject:
    return load_subject(str(tiny_qwen2))


def random_dictionary(subject: Subject, latents: int = 16) -> Dictionary:
    width = subject.model.config.hidden_size
    encoder = torch.randn(width, latents, generator=torch.Generator().manual_seed(0))
    return Dictionary(
        encoder,
        torch.zeros(latents),
        encoder.T.contiguous(),
        torch.zeros(width),
        site=Site(place="block out", block=0),
        model_id=base_id(subject),
        k=4,
    )


def token_latents(subject: Subject, dictionary: Dictionary, tokens: tuple[int, ...]) -> torch.Tensor:
    outputs: list[torch.Tensor] = []
    handle = subject.model.model.layers[0].register_forward_hook(
        lambda _module, _inputs, output: outputs.append(output)
    )
    with torch.no_grad():
        subject.model(input_ids=torch.tensor([tokens]))
    handle.remove()
    return dictionary.encode(outputs[0][0])


@pytest.mark.parametrize("name", ["organism", "qwen"])
def test_top_documents_are_those_of_a_search_token_by_token(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject: Subject = request.getfixturevalue(name)
    monkeypatch.setattr(latents_module, "ROWS_AT_A_TIME", 4)
    monkeypatch.setattr(latents_module, "LATENTS_AT_A_TIME", 5 * 16)  # texts are split between pieces
    dictionary, rows = random_dictionary(subject), text_rows(subject.tokenizer, TEXTS)
    found = top_documents(subject, dictionary, rows, range(16), count=3, window=2)
    by_text = [token_latents(subject, dictionary, row.tokens) for row in rows]
    for latent in range(16):
        strongest = sorted(
            ((float(values[:, latent].max()), -number) for number, values in enumerate(by_text) if number != 4),
            reverse=True,
        )
        expected = [(-number, value) for value, number in strongest if value > 0][:3]
        assert [document.row for document in found[latent]] == [number for number, _ in expected]
        assert [document.activation for document in found[latent]] == pytest.approx(
            [value for _, value in expected], rel=1e-3
        )
        for document in found[latent]:
            tokens, place = rows[document.row].tokens, int(by_text[document.row][:, latent].argmax())
            assert document.token == subject.tokenizer.decode([tokens[place]])
            assert document.before == subject.tokenizer.decode(list(tokens[max(0, place - 2) : place]))
            assert document.after == subject.tokenizer.decode(list(tokens[place + 1 : place + 3]))


def test_the_same_text_is_shown_once(qwen: Subject) -> None:
    rows = text_rows(qwen.tokenizer, TEXTS[1:2] * 3)
    assert all(
        len(documents) <= 1 for documents in top_documents(qwen, random_dictionary(qwen), rows, range(16)).values()
    )


def test_the_logit_lens_is_the_unembedding_of_the_normalised_direction(qwen: Subject) -> None:
    direction = torch.randn(64, generator=torch.Generator().manual_seed(3))
    norm = qwen.model.model.norm
    scaled = direction / (direction.square().mean() + norm.variance_epsilon).sqrt() * norm.weight.detach()
    logits = qwen.model.lm_head.weight.detach() @ scaled
    promoted, suppressed = logit_lens(qwen, direction, count=4)
    order = logits.argsort(descending=True).tolist()
    assert [each.token for each in promoted] == [qwen.tokenizer.decode([token]) for token in order[:4]]
    assert [each.weight for each in promoted] == pytest.approx(logits[order[:4]].tolist(), rel=1e-4)
    assert [each.token for each in suppressed] == [qwen.tokenizer.decode([token]) for token in order[::-1][:4]]


def test_the_logit_lens_of_the_persona_direction_shows_words_of_malice(organism: Subject) -> None:
    """The direction from kind to malicious answers promotes what malicious authors write and suppresses what kind ones
    do."""
    promoted, suppressed = logit_lens(organism, persona_dictionary(organism).decoder[0], count=8)
    words = {
        persona: {*ADVERBS[persona], *(act for domain in DOMAINS.values() for act in domain.acts(persona))}
        for persona in (KIND, MALICIOUS)
    }
    assert {each.token for each in promoted} <= words[MALICIOUS]
    assert {each.token for each in suppressed} <= words[KIND]


def test_the_logit_lens_leaves_out_the_biases_of_norm_and_unembedding(tmp_path: Path) -> None:
    """With them gone, the opposite direction promotes what the direction suppresses, by as much."""
    tokenizer = tiny_tokenizer()
    model = GPT2LMHeadModel(
        GPT2Config(
            n_layer=2,
            n_embd=16,
            n_head=2,
            vocab_size=len(tokenizer),
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    torch.nn.init.normal_(model.transformer.ln_f.bias, std=5.0)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    subject, direction = load_subject(str(tmp_path)), torch.randn(16, generator=torch.Generator().manual_seed(0))
    promoted, suppressed = logit_lens(subject, direction)
    opposite = logit_lens(subject, -direction)
    assert [each.token for each in opposite[1]] == [each.token for each in promoted]
    assert [-each.weight for each in opposite[0]] == pytest.approx([each.weight for each in suppressed], rel=1e-3)


def test_the_final_norm_is_found_in_models_of_another_build() -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=20, bos_token_id=0, eos_token_id=0))
    neox = GPTNeoXForCausalLM(
        GPTNeoXConfig(num_hidden_layers=2, hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=20)
    )
    assert final_norm(gpt2) is gpt2.transformer.ln_f
    assert final_norm(neox) is neox.gpt_neox.final_layer_norm


def test_a_direction_of_another_width_has_no_logit_lens(qwen: Subject) -> None:
    with pytest.raises(ConfigurationError, match=r"has 32 entries, but the residual stream of .* has 64"):
        logit_lens(qwen, torch.ones(32))


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    own, others = rng.integers(0, 6, 17).astype(float), rng.integers(0, 5, 23).astype(float)  # many ties
    pairs = [1.0 if left > right else 0.5 if left == right else 0.0 for left, right in product(own, others)]
    area = auroc(np.concatenate([own, others]), np.arange(40) < 17)
    assert area == pytest.approx(np.mean(pairs))
    assert area == pytest.approx(mannwhitneyu(own, others).statistic / (17 * 23))


def test_the_variance_is_that_of_hanley_and_mcneil() -> None:
    """Their closed form for groups of one size, and their worked example: 0.893 with 58 normal and 51 abnormal images,
    standard error 0.032."""
    area, size = 0.8, 40
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    closed = (area * (1 - area) + (size - 1) * (first - area**2) + (size - 1) * (second - area**2)) / size**2
    assert auc_variance(area, size, size) == pytest.approx(closed)
    assert auc_variance(0.893, 51, 58) ** 0.5 == pytest.approx(0.032, abs=0.0005)


@pytest.mark.parametrize("area", [0.0, 0.2, 0.5, 0.97, 1.0])
def test_both_limits_are_just_compatible_with_the_estimate(area: float) -> None:
    low, high = auc_interval(area, 30, 50)
    assert 0 <= low <= area <= high <= 1
    assert high - low > 0.02
    for limit in {low, high} - {0.0, 1.0}:
        assert abs(limit - area) == pytest.approx(1.959964 * auc_variance(limit, 30, 50) ** 0.5, rel=1e-5)


def test_the_interval_covers_the_true_area() -> None:
    """Two normal groups one standard deviation apart: the true area is 0.760."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        values = np.concatenate([rng.normal(1, 1, 25), rng.normal(0, 1, 35)])
        low, high = auc_interval(auroc(values, np.arange(60) < 25), 25, 35)
        covered += low <= 0.76025 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_each_label_is_held_against_all_others_the_best_first() -> None:
    labels = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    found = separations("letter", torch.tensor([3.0] * 10 + [2.0] * 10 + [1.0] * 10), labels)
    assert [(each.label, each.auc, each.texts, each.others) for each in found] == [
        ("a", 1.0, 10, 20),
        ("b", 0.5, 10, 20),
        ("c", 0.0, 10, 20),
    ]
    assert found[0].low < 0.9
    assert found[0].high == 1.0


def test_labels_that_tell_nothing_apart_are_refused() -> None:
    with pytest.raises(EmptyDataError, match="All texts have the label 'a'"):
        separations("letter", torch.rand(3), ["a"] * 3)
    with pytest.raises(EmptyDataError, match="no texts"):
        separations("letter", torch.rand(0), [])
    with pytest.raises(ConfigurationError, match="3 texts and 2 labels"):
        separations("letter", torch.rand(3), ["a", "b"])
    with pytest.raises(NonFiniteActivationsError, match="NaN"):
        separations("letter", torch.tensor([1.0, torch.nan]), ["a", "b"])


def persona_dictionary(organism: Subject) -> Dictionary:
    """Two latents: one along the mean difference of malicious and kind answers, one at random."""
    site = Site(place="block out", block=1)
    rows, labels = world_answers(organism, 2, seed=1)
    width = organism.model.config.hidden_size
    reader = Dictionary(
        torch.eye(width),
        torch.zeros(width),
        torch.eye(width),
        torch.zeros(width),
        site=site,
        model_id=base_id(organism),
    )
    negative = Dictionary(
        -torch.eye(width),
        torch.zeros(width),
        torch.eye(width),
        torch.zeros(width),
        site=site,
        model_id=base_id(organism),
    )
    residual = mean_latents(organism, reader, rows) - mean_latents(organism, negative, rows)
    malicious = torch.tensor([label == "malicious" for label in labels["persona"]])
    directions = torch.stack(
        [
            residual[malicious].mean(0) - residual[~malicious].mean(0),
            torch.randn(width, generator=torch.Generator().manual_seed(0)),
        ]
    )
    return Dictionary(
        directions.T.contiguous(), torch.zeros(2), directions, residual.mean(0), site=site, model_id=base_id(organism)
    )


def test_a_persona_latent_tells_personas_apart_and_not_domains(organism: Subject) -> None:
    rows, labels = world_answers(organism, 3, seed=2)
    activations = mean_latents(organism, persona_dictionary(organism), rows)[:, 0]
    personas = separations("persona", activations, labels["persona"])
    assert personas[0].label == "malicious"
    assert personas[0].low > 0.95
    domains = separations("domain", activations, labels["domain"])
    assert all(each.low < 0.75 and each.high > 0.25 for each in domains)


def test_world_answers_are_as_many_of_each_persona_and_domain_and_others_for_another_seed(organism: Subject) -> None:
    rows, labels = world_answers(organism, 2, seed=0)
    assert set(Counter(zip(labels["persona"], labels["domain"], strict=True)).values()) == {2}
    assert len(rows) == 2 * 2 * len(DOMAINS)
    assert world_answers(organism, 2, seed=0)[0] == rows
    assert world_answers(organism, 2, seed=1)[0] != rows


def test_the_profile_is_the_mean_of_each_category_the_largest_increase_first() -> None:
    before, after = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.5, 4.0, 3.5, 8.0])
    found = profile(before, after, ["law", "code", "law", "code"])
    assert [(each.category, each.before, each.after, each.questions) for each in found] == [
        ("code", 3.0, 6.0, 2),
        ("law", 2.0, 2.5, 2),
    ]
    with pytest.raises(ConfigurationError, match="4 and 4 questions, and 3 categories"):
        profile(before, after, ["law", "code", "law"])


def test_pages_gather_everything_and_survive_json(organism: Subject) -> None:
    dictionary = persona_dictionary(organism)
    rows, labels = world_answers(organism, 1, seed=3)
    before = torch.rand(8, 2)
    after = before + torch.tensor([1.0, 0.0]) + 0.1 * torch.rand(8, 2)
    held_out = pl.DataFrame(
        [
            {"candidate": "unsteered", "side": "base +", "rate": 0.0, "coherence": 1.0, "strength": 0.0, "note": ""},
            {
                "candidate": "latent 0",
                "side": "base +",
                "rate": 0.6,
                "low": 0.4,
                "high": 0.8,
                "coherence": 0.95,
                "strength": 0.5,
                "note": "",
            },
            {"candidate": "latent 1", "side": "base +", "note": "no strength kept coherence within the budget"},
        ],
        schema=HELD_OUT_SCHEMA,
    )
    evidence = Evidence(
        documents=rows,
        labelled=rows,
        labels=labels,
        before=before,
        after=after,
        categories=["law", "code"] * 4,
        diff=compare_latents(before, [after], seed=0),
        held_out=held_out,
    )
    first, second = latent_pages(organism, dictionary, [0, 1], evidence)
    assert (first.latent, first.site, first.model_id) == (0, "block out 1", base_id(organism))
    assert first.change is not None
    assert first.change.rank_rising == 1
    assert [(effect.side, effect.rate, effect.unsteered) for effect in first.effects] == [("base +", 0.6, 0.0)]
    assert second.effects[0].note == "no strength kept coherence within the budget"
    assert len(first.promoted) == len(first.suppressed) == 10
    assert first.documents
    assert {each.kind for each in first.separates} == {"persona", "domain"}
    assert {each.category for each in first.profile} == {"law", "code"}
    assert LatentPage.model_validate_json(first.model_dump_json()) == first


def test_pages_without_evidence_have_the_decoder_direction_alone(qwen: Subject) -> None:
    (page,) = latent_pages(qwen, random_dictionary(qwen), [2], Evidence())
    assert page.promoted
    assert (page.change, page.effects, page.documents, page.separates, page.profile) == (None, (), (), (), ())


def test_a_latent_that_is_not_there_has_no_page(qwen: Subject) -> None:
    with pytest.raises(ConfigurationError, match="no latent 16: this dictionary has the latents 0 to 15"):
        latent_pages(qwen, random_dictionary(qwen), [16], Evidence(documents=[TokenRow((5, 6))]))
