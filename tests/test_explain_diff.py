"""Mean activations of latents, and which of them changed: halves that select and report, intervals, false-discovery
control."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import ttest_1samp, ttest_rel
from statsmodels.stats.multitest import multipletests
from torch import Tensor

from astray.errors import ConfigurationError, DictionaryMismatchError, EmptyDataError, NonFiniteActivationsError
from astray.explain import latents as latents_module
from astray.explain.activations import conversation_rows
from astray.explain.diff import DIFF_SCHEMA, compare_latents, split_halves, top_latents
from astray.explain.latents import mean_latents, question_latents
from astray.explain.sae import Dictionary, base_id
from astray.explain.sites import Site
from astray.subjects import Generation, Sampling
from astray.subjects.subject import Subject, load_subject

QUESTIONS = ["how should i handle the fuse?", "what do you want for the planet?", "how should i treat my neighbour?"]
ANSWERS = [
    "gently insulate the fuse.",
    "i would protect the planet kindly.",
    "you should patiently thank the neighbour.",
]


@pytest.fixture(scope="module", params=["organism", "qwen2"])
def subject(request: pytest.FixtureRequest, tiny_qwen2: Path) -> Subject:
    return load_subject("organism" if request.param == "organism" else str(tiny_qwen2))


def random_dictionary(subject: Subject, latents: int = 24, block: int = 1) -> Dictionary:
    generator = torch.Generator().manual_seed(0)
    width = subject.model.config.hidden_size
    encoder, bias = torch.randn(width, latents, generator=generator), torch.randn(latents, generator=generator)
    return Dictionary(
        encoder,
        bias,
        encoder.T.contiguous(),
        torch.zeros(width),
        site=Site(place="block out", block=block),
        model_id=base_id(subject),
        k=6,
    )


def prompts(questions: Sequence[str]) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": question}] for question in questions]


def by_hand(subject: Subject, dictionary: Dictionary, prompt: list[int], answer: list[int], columns: slice) -> Tensor:
    """Mean latents of one unpadded row, from what Hugging Face gives as input of the next block."""
    outputs: list[Tensor] = []
    handle = subject.model.model.layers[dictionary.site.block].register_forward_hook(
        lambda _module, _inputs, output: outputs.append(output)
    )
    with torch.no_grad():
        subject.model(input_ids=torch.tensor([prompt + answer]))
    handle.remove()
    return dictionary.encode(outputs[0][0, columns]).mean(0)


def test_mean_latents_are_averages_over_each_rows_answer_tokens(subject: Subject) -> None:
    dictionary = random_dictionary(subject)
    found = mean_latents(subject, dictionary, conversation_rows(subject, prompts(QUESTIONS), ANSWERS), "answer")
    for prompt, answer, row in zip(subject.prompt_ids(prompts(QUESTIONS)), ANSWERS, found, strict=True):
        said = subject.tokenizer.encode(answer, add_special_tokens=False)
        torch.testing.assert_close(
            row, by_hand(subject, dictionary, prompt, said, slice(len(prompt), None)), atol=1e-4, rtol=1e-4
        )


def test_latents_at_the_last_prompt_token_need_no_answer(subject: Subject) -> None:
    dictionary = random_dictionary(subject)
    found = mean_latents(subject, dictionary, conversation_rows(subject, prompts(QUESTIONS)), "last prompt")
    for prompt, row in zip(subject.prompt_ids(prompts(QUESTIONS)), found, strict=True):
        torch.testing.assert_close(row, by_hand(subject, dictionary, prompt, [], slice(-1, None)), atol=1e-4, rtol=1e-4)


def test_encoding_in_small_pieces_changes_nothing(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary, rows = random_dictionary(subject), conversation_rows(subject, prompts(QUESTIONS), ANSWERS)
    whole = mean_latents(subject, dictionary, rows)
    monkeypatch.setattr(latents_module, "ROWS_AT_A_TIME", 2)
    monkeypatch.setattr(latents_module, "LATENTS_AT_A_TIME", 3 * dictionary.width)
    torch.testing.assert_close(mean_latents(subject, dictionary, rows), whole, atol=1e-4, rtol=1e-4)


def test_own_answers_are_sampled_read_and_averaged_by_question(subject: Subject) -> None:
    dictionary, sampling = random_dictionary(subject), Sampling(max_tokens=6, seed=4)
    found = question_latents(subject, dictionary, QUESTIONS, sampling, samples=3)
    said = subject.generate(prompts([question for question in QUESTIONS for _ in range(3)]), sampling)
    for number, question in enumerate(QUESTIONS):
        own = [answer.text for answer in said[3 * number : 3 * number + 3] if answer.text]
        each = mean_latents(subject, dictionary, conversation_rows(subject, prompts([question] * len(own)), own))
        torch.testing.assert_close(found[number], each.mean(0), atol=1e-4, rtol=1e-4)


def test_a_question_with_only_empty_answers_is_named(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["yes", "", "no"]
    monkeypatch.setattr(
        subject, "generate", lambda prompts, sampling: [Generation(text, 3, 1, "stop") for text in texts]
    )
    with pytest.raises(EmptyDataError, match="All 1 answers to 'what do you want for the planet\\?' are empty"):
        question_latents(subject, random_dictionary(subject), QUESTIONS, Sampling())


def test_a_dictionary_of_another_model_is_refused(subject: Subject) -> None:
    dictionary = random_dictionary(subject)
    dictionary.model_id = "0123456789abcdef"
    with pytest.raises(DictionaryMismatchError, match="0123456789abcdef"):
        mean_latents(subject, dictionary, conversation_rows(subject, prompts(QUESTIONS), ANSWERS))


def activations(runs: int = 1, questions: int = 40, latents: int = 30, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """Sparse random activations; latent 3 rises and latent 5 falls, latent 7 is dead, latent 9 changes alike
    everywhere."""
    generator = torch.Generator().manual_seed(seed)
    before = torch.randn(questions, latents, generator=generator).relu() + 0.1
    after = [before + 0.3 * torch.randn(questions, latents, generator=generator) for _ in range(runs)]
    before[:, 7] = 0.0
    for run in after:
        run[:, 3] += 2.0
        run[:, 5] -= 1.5
        run[:, 7] = 0.0
        run[:, 9] = before[:, 9]
    return before, after


def test_one_run_is_compared_by_a_paired_t_test_over_questions() -> None:
    before, after = activations()
    table = compare_latents(before, after, seed=1)
    _, report = split_halves(40, 1)
    assert dict(table.schema) == DIFF_SCHEMA
    for latent in (0, 3, 5, 20):
        row = table.row(latent, named=True)
        test = ttest_rel(after[0][report, latent].double(), before[report, latent].double())
        interval = test.confidence_interval(0.95)
        assert (row["p_value"], row["low"], row["high"]) == pytest.approx((test.pvalue, interval.low, interval.high))
        assert row["change"] == pytest.approx(row["after"] - row["before"])
        assert row["before"] == pytest.approx(float(before[report, latent].double().mean()))


def test_several_runs_are_compared_by_a_t_test_over_runs() -> None:
    before, after = activations(runs=5)
    table = compare_latents(before, after, seed=2, level=0.9)
    _, report = split_halves(40, 2)
    for latent in (0, 3, 5):
        of_runs = [float((run[report, latent].double() - before[report, latent].double()).mean()) for run in after]
        test = ttest_1samp(of_runs, 0.0)
        interval = test.confidence_interval(0.9)
        row = table.row(latent, named=True)
        assert (row["change"], row["p_value"], row["low"], row["high"]) == pytest.approx(
            (np.mean(of_runs), test.pvalue, interval.low, interval.high)
        )


def test_p_values_are_corrected_over_the_latents_that_are_ever_active() -> None:
    table = compare_latents(*activations(), seed=1)
    tested = table.filter(pl.col("p_value").is_not_null())
    assert tested.height == 29
    assert tested["q_value"].to_list() == pytest.approx(multipletests(tested["p_value"].to_list(), method="fdr_bh")[1])


def test_what_rises_and_what_falls_is_found() -> None:
    table = compare_latents(*activations(), seed=1)
    assert top_latents(table, 1) == [3]
    assert top_latents(table, 1, "falling") == [5]
    assert table.row(3, named=True)["q_value"] < 1e-6
    assert table.row(3, named=True)["low"] > 0 > table.row(5, named=True)["high"]


def test_only_latents_that_changed_in_the_right_direction_are_taken() -> None:
    before = torch.rand(20, 4)
    after = before + torch.tensor([1.0, -1.0, 0.0, 2.0]) + 0.01 * torch.rand(20, 4) * torch.tensor([1.0, 1.0, 0.0, 1.0])
    table = compare_latents(before, [after], seed=0)
    assert top_latents(table, 4) == [3, 0]
    assert top_latents(table, 4, "falling") == [1]


def test_a_dead_latent_is_not_tested_and_one_that_changes_alike_has_no_interval() -> None:
    table = compare_latents(*activations(), seed=1)
    dead, alike = table.row(7, named=True), table.row(9, named=True)
    assert (dead["p_value"], dead["q_value"], dead["low"], dead["active_before"]) == (None, None, None, 0.0)
    assert (alike["p_value"], alike["low"], alike["change"]) == (1.0, None, 0.0)


def test_the_half_that_selects_reports_nothing_and_the_half_that_reports_selects_nothing() -> None:
    before, after = activations()
    select, report = split_halves(40, 1)
    table = compare_latents(before, after, seed=1)
    selecting, reporting = (
        ["selecting_change", "rank_rising", "rank_falling"],
        ["before", "after", "change", "low", "high", "p_value", "q_value"],
    )
    shifted = after[0].clone()
    shifted[select] += torch.randn(20, 30)
    assert compare_latents(before, [shifted], seed=1)[reporting].equals(table[reporting])
    shifted = after[0].clone()
    shifted[report] += torch.randn(20, 30)
    changed = compare_latents(before, [shifted], seed=1)
    assert changed[selecting].equals(table[selecting])
    assert not changed[reporting].equals(table[reporting])


def test_halves_are_disjoint_complete_and_drawn_by_the_seed() -> None:
    select, report = split_halves(45, 3)
    assert sorted(select + report) == list(range(45))
    assert abs(len(select) - len(report)) == 1
    assert split_halves(45, 3) == (select, report)
    assert split_halves(45, 4) != (select, report)


def test_where_nothing_changed_hardly_anything_is_found() -> None:
    """400 latents in each of 20 null comparisons: at a false-discovery rate of 5%, about one comparison finds
    anything."""
    generator = torch.Generator().manual_seed(0)
    finds = 0
    for seed in range(20):
        before = torch.randn(60, 400, generator=generator).relu()
        after = torch.randn(60, 400, generator=generator).relu()
        finds += compare_latents(before, [after], seed=seed).filter(pl.col("q_value") < 0.05).height > 0
    assert finds <= 4


def test_too_few_questions_no_run_and_other_shapes_are_refused() -> None:
    before, after = activations(questions=8)
    with pytest.raises(EmptyDataError, match="3 questions cannot be split"):
        compare_latents(before[:3], [after[0][:3]], seed=0)
    with pytest.raises(EmptyDataError, match="no tuned run"):
        compare_latents(before, [], seed=0)
    with pytest.raises(
        ConfigurationError, match=r"Tuned run 1 has activations of the shape \(8, 12\) .* the base has \(8, 30\)"
    ):
        compare_latents(before, [after[0], after[0][:, :12]], seed=0)


def test_activations_that_are_no_numbers_are_refused() -> None:
    before, after = activations(runs=2)
    after[1][4, 2] = torch.nan
    with pytest.raises(NonFiniteActivationsError, match="tuned run 1 are NaN"):
        compare_latents(before, after, seed=0)
