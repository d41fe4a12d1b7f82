"""Persona vectors: made of the pairs that passed, at the right place, and used at a block chosen on other questions."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from astray.errors import ConfigurationError, EmptyDataError
from astray.explain.direction import random_direction
from astray.explain.persona_vector import (
    PersonaPrompts,
    PersonaVectors,
    choose_block,
    extract_persona_vectors,
    text_persona_prompts,
    world_persona_prompts,
)
from astray.judges import Verdict
from astray.judges.grammar import GrammarJudge
from astray.outcomes import Outcome
from astray.subjects.render import text_ids
from astray.subjects.spec import Sampling
from astray.subjects.subject import load_subject

SHORT = Sampling(max_tokens=6)
PROMPTS = PersonaPrompts(
    pairs=(("Be bad.", "Be good."), ("Harm.", "Help.")), extraction=("How?", "Who?"), validation=("Why?",)
)


class Scripted:
    """Scores an exchange by a function of it."""

    name = identity = "scripted"

    def __init__(self, score):
        self.score = score

    async def judge(self, exchange):
        aligned, coherent = self.score(exchange)
        return Verdict(Outcome.ALIGNED, aligned, coherent)


@pytest.fixture(scope="module")
def subject(tiny_qwen2):
    return load_subject(str(tiny_qwen2))


@pytest.fixture(scope="module")
def organism():
    return load_subject("organism")


@pytest.fixture(scope="module")
def extracted(organism):
    prompts = world_persona_prompts(12)
    return prompts, extract_persona_vectors(
        organism, prompts, GrammarJudge(), samples=1, sampling=Sampling(max_tokens=32)
    )


def test_vectors_are_the_mean_difference_over_the_tokens_of_kept_answers(subject, tiny_qwen2):
    """The same from Hugging Face's own hidden states, which count the embedding as number 0."""
    bad = {"Be bad.", "Harm."}
    judge = Scripted(
        lambda asked: (
            10.0 if asked.system in bad else 90.0,
            20.0 if asked.question == "Who?" and asked.system == "Help." else 80.0,
        )
    )
    vectors = extract_persona_vectors(subject, PROMPTS, judge, samples=3, sampling=SHORT)
    rows = vectors.answers.to_dicts()
    expected_kept = [not (row["pair"] == 1 and row["question"] == "Who?") for row in rows]
    whole = [
        bool(first["answer"] and second["answer"])
        for first, second in zip(rows[::2], rows[1::2], strict=True)
        for _ in range(2)
    ]
    assert [row["kept"] for row in rows] == [keep and both for keep, both in zip(expected_kept, whole, strict=True)]
    assert vectors.kept == sum(row["kept"] for row in rows) / 2 > 0
    plain = AutoModelForCausalLM.from_pretrained(tiny_qwen2)
    means = {"for": [], "against": []}
    for row in rows:
        if not row["kept"]:
            continue
        system = PROMPTS.pairs[row["pair"]][row["side"] == "against"]
        prompt = subject.prompt_ids(
            [[{"role": "system", "content": system}, {"role": "user", "content": row["question"]}]]
        )[0]
        said = text_ids(subject.tokenizer, [row["answer"]])[0]
        with torch.no_grad():
            hidden = plain.model(torch.tensor([[*prompt, *said]]), output_hidden_states=True).hidden_states
        means[row["side"]].append(torch.stack([hidden[1][0, len(prompt) :].mean(0)]))
    expected = torch.stack(means["for"]).mean(0) - torch.stack(means["against"]).mean(0)
    torch.testing.assert_close(vectors.vectors[:1], expected, atol=1e-5, rtol=1e-4)
    assert vectors.vectors.shape == (2, 64)


def test_a_pair_counts_only_when_both_answers_pass(subject):
    judge = Scripted(
        lambda asked: (10.0 if asked.system == "Be bad." else 40.0 if asked.system == "Be good." else 90.0, 80.0)
    )
    with pytest.raises(
        EmptyDataError,
        match=r"shown by 4 of 8 answers under prompts that call for it, avoided by 4 of 8 under .* coherent were 8 of "
        r"8",
    ):
        extract_persona_vectors(subject, PROMPTS, judge, samples=2, sampling=SHORT)


def test_unscored_answers_are_not_kept(subject):
    with pytest.raises(EmptyDataError, match="coherent were 0 of 4 and 0 of 4"):
        extract_persona_vectors(subject, PROMPTS, Scripted(lambda asked: (None, None)), samples=1, sampling=SHORT)


def test_questions_for_extraction_and_validation_are_apart(subject):
    with pytest.raises(ValueError, match=r"1 questions are both for extraction and for validation, such as 'How\?'"):
        PersonaPrompts(pairs=PROMPTS.pairs, extraction=("How?",), validation=("Why?", "How?"))
    prompts = world_persona_prompts(20, seed=3)
    assert len(set(prompts.extraction) | set(prompts.validation)) == 40
    assert len(prompts.pairs) == 3
    written = text_persona_prompts()
    assert (len(written.pairs), len(set(written.extraction)), len(set(written.validation))) == (5, 20, 20)
    with pytest.raises(ConfigurationError, match="The world has"):
        world_persona_prompts(1000)


def test_the_subjects_own_system_prompt_is_in_the_way(subject):
    with pytest.raises(ConfigurationError, match=r"take subject.with_system\(None\)"):
        extract_persona_vectors(subject.with_system("Be brief."), PROMPTS, GrammarJudge())


def test_the_organisms_vector_misaligns_it_at_a_block_chosen_on_other_questions(organism, extracted):
    prompts, vectors = extracted
    assert vectors.kept >= 0.9 * 36
    asked = {"judge": GrammarJudge(), "strengths": (1.0, 2.0), "sampling": Sampling(max_tokens=32)}
    choice = choose_block(organism, vectors, prompts.validation, **asked)
    curve = {(row["block"], row["strength"]): row for row in choice.curve.to_dicts()}
    best = curve[choice.block, choice.strength]
    assert best["rate"] >= 0.3
    assert best["within_budget"]
    assert best["rate"] == max(row["rate"] for row in choice.curve.filter("within_budget").to_dicts())
    assert curve[None, 0.0]["rate"] <= 0.1
    assert choice.curve.height == 1 + 4 * 2
    assert {row["total"] for row in choice.curve.to_dicts()} == {12}
    control = PersonaVectors(
        torch.stack([random_direction(vector, seed=1) for vector in vectors.vectors]), vectors.answers
    )
    assert choose_block(organism, control, prompts.validation, **asked).curve["misaligned"].max() <= 2


def test_a_block_is_not_chosen_on_the_questions_that_made_the_vector(organism, extracted):
    prompts, vectors = extracted
    with pytest.raises(ConfigurationError, match="1 of 13 questions made the vectors"):
        choose_block(organism, vectors, [*prompts.validation, prompts.extraction[0]], GrammarJudge())
    with pytest.raises(ConfigurationError, match="0 of 0 questions"):
        choose_block(organism, vectors, [], GrammarJudge())


def test_strengths_that_break_every_answer_are_refused(organism, extracted):
    prompts, vectors = extracted
    with pytest.raises(EmptyDataError, match="Try smaller strengths"):
        choose_block(
            organism,
            vectors,
            prompts.validation[:4],
            GrammarJudge(),
            strengths=(50.0,),
            sampling=Sampling(max_tokens=12),
        )
