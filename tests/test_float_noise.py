"""The same order on every CPU: values that are equal in truth are given the noise of other kernels, and nothing that is
reported changes."""

from pathlib import Path

import anyio
import numpy as np
import polars as pl
import pytest
import torch
from inspect_ai.model import ModelOutput
from inspect_ai.model._model_output import ChatCompletionChoice, Logprob, Logprobs, TopLogprob

from astray.cause.selection import Selection, select_for_kto
from astray.cause.users import INTERACTIONS
from astray.data.chat import ChatDataset
from astray.explain import meaning
from astray.explain.activations import text_rows
from astray.explain.diff import compare_latents, most_active, top_latents
from astray.explain.meaning import logit_lens, profile, top_documents
from astray.explain.sae import Dictionary, base_id
from astray.explain.screening import SCREENING_SCHEMA, find_bad_rows, rank_datasets
from astray.explain.separation import separations
from astray.explain.sites import Site
from astray.judges.score import Method, Thresholds, read_probabilities
from astray.measure.asking import Heard
from astray.measure.choice import ChoiceItem
from astray.measure.forced_choice import ForcedChoice, LetterJudge
from astray.mitigate import call_probe
from astray.mitigate.distrust import filter_rows
from astray.outcomes import Outcome
from astray.stats.ties import NOISE, level_ties, ranking
from astray.subjects.subject import Subject, load_subject

SHAKES = range(12)


@pytest.fixture(scope="module")
def subject(tiny_qwen2: Path) -> Subject:
    return load_subject(str(tiny_qwen2))


def shaken(values, seed: int):
    """The values as another CPU might give them: each off by up to a millionth."""
    factors = 1 + 1e-6 * np.random.default_rng(seed).uniform(-1, 1, np.shape(values))
    return (
        values * torch.from_numpy(factors).to(values.dtype)
        if isinstance(values, torch.Tensor)
        else np.asarray(values) * factors
    )


def test_equal_values_go_by_index_whatever_their_last_digits():
    truth = np.random.default_rng(0).integers(-20, 20, 400) / 7.0
    expected = sorted(range(400), key=lambda index: (-truth[index], index))
    for seed in SHAKES:
        assert ranking(shaken(truth, seed)) == expected
        leveled = level_ties(shaken(truth, seed))
        assert len(set(leveled)) == len(set(truth))
        assert leveled == pytest.approx(truth, rel=3e-6)


def test_a_chain_of_small_steps_joins_nothing_far_apart():
    values = 1 - 0.4 * NOISE * np.arange(1000)
    leveled = level_ties(values[::-1])[::-1]
    assert (np.abs(leveled - values) <= NOISE).all()
    assert len(set(leveled)) >= 300
    assert (np.diff(leveled) <= 0).all()


def test_values_that_differ_keep_their_order_and_what_is_no_number_stays():
    values = np.array([3.0, 1e-3, -np.inf, 3.0001, np.inf, 0.0, np.nan, 3.0])
    assert ranking(values) == [4, 3, 0, 7, 1, 5, 2, 6]
    np.testing.assert_array_equal(level_ties(values), values)
    assert level_ties(np.empty(0)).tolist() == []


TEXTS = [
    "i would help them now",
    "i would help them",
    "the sky is blue",
    "i would help them now",
    "i would",
    "i would help",
    "the sky is blue",
]


def test_top_documents_are_the_same_texts_in_the_same_order(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some texts are equal, and others begin alike: a latent that is strongest in what they share is as strong in each
    of them."""
    encoder = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    site = Site(place="block out", block=0)
    dictionary = Dictionary(
        encoder, torch.zeros(32), encoder.T.contiguous(), torch.zeros(64), site=site, model_id=base_id(subject), k=4
    )
    rows, clean = text_rows(subject.tokenizer, TEXTS), meaning.encoded
    seen = []
    for seed in SHAKES:

        def encoded(*arguments, seed=seed):
            for start, captured, tokens, latents in clean(*arguments):
                yield start, captured, tokens, shaken(latents, seed)

        monkeypatch.setattr(meaning, "encoded", encoded)
        found = top_documents(subject, dictionary, rows, range(32), count=4)
        seen.append(
            {latent: [(each.row, each.before, each.token) for each in shown] for latent, shown in found.items()}
        )
    assert all(each == seen[0] for each in seen)
    shown = [[row for row, _, _ in each] for each in seen[0].values()]
    assert not {3, 6} & {row for each in shown for row in each}  # equal to 0 and 2
    assert any(each[:2] == [0, 1] or each[:3] == [0, 1, 4] for each in shown)


def test_tokens_with_equal_weights_are_promoted_in_the_order_of_the_vocabulary(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = subject.model.get_output_embeddings()
    direction = torch.randn(64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        weight = head.weight.clone()
        best, worst = int((weight @ direction).argmax()), int((weight @ direction).argmin())
        weight[best : best + 9], weight[worst : worst + 9] = weight[best].clone(), weight[worst].clone()
    seen = []
    for seed in SHAKES:
        monkeypatch.setattr(subject.model, "get_output_embeddings", lambda seed=seed: _Head(weight, seed))
        seen.append([[each.token for each in end] for end in logit_lens(subject, direction, 6)])
    assert all(each == seen[0] for each in seen)


class _Head:
    def __init__(self, weight: torch.Tensor, seed: int) -> None:
        self.weight, self.seed = weight, seed

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return shaken(hidden @ self.weight.T, self.seed)


def test_categories_that_changed_alike_keep_their_order() -> None:
    for seed in SHAKES:
        found = profile(torch.zeros(4), shaken(torch.ones(4), seed), ["d", "b", "c", "a"])
        assert [each.category for each in found] == ["d", "b", "c", "a"]


def test_equal_activations_separate_nothing() -> None:
    values = torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0, 0.5])
    labels = ["kind", "malicious", "kind", "kind", "malicious", "malicious"]
    truth = separations("persona", values, labels)
    assert all(separations("persona", shaken(values, seed), labels) == truth for seed in SHAKES)


def test_latents_that_change_alike_or_not_at_all_keep_their_order() -> None:
    before = torch.full((8, 6), 5.0)
    after = before + torch.tensor([0.0, 1.0, 0.0, 1.0, -2.0, -2.0])
    for seed in SHAKES:
        table = compare_latents(shaken(before, seed), [shaken(after, seed + 100)], seed=0)
        assert top_latents(table, 6) == [1, 3]
        assert top_latents(table, 6, "falling") == [4, 5]
        assert table["rank_rising"].to_list() == [3, 1, 4, 2, 5, 6]
        assert most_active(table, 3) == [0, 1, 2]
        assert table["p_value"].to_list() == [1.0] * 6 or table["low"].null_count() == 6  # all questions changed alike


def screened(differences, seed: int) -> pl.DataFrame:
    count = len(differences)
    columns = {
        "row": range(count),
        "prompt": range(count),
        "tokens": [5] * count,
        "projection": 0.0,
        "own_projection": 0.0,
    }
    return pl.DataFrame(columns | {"difference": shaken(differences, seed)}, schema=SCREENING_SCHEMA)


def test_equal_rows_and_data_sets_are_screened_alike() -> None:
    differences = np.array([2.0, 1.0, 1.0, 1.0, 1.0, 0.5, 2.0, 0.5])
    bad = [True, True, False, False, True, False, False, True]
    truth = find_bad_rows(screened(differences, 0), bad)
    for seed in SHAKES:
        found = find_bad_rows(screened(differences, seed), bad)
        assert (found.average_precision, found.curve.equals(truth.curve)) == (truth.average_precision, True)
        tables = {name: screened(differences, 10 * seed + number) for number, name in enumerate("dbca")}
        assert rank_datasets(tables)["name"].to_list() == ["d", "b", "c", "a"]


def test_of_probes_that_tell_alike_the_first_is_taken(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [call_probe.WatchedCall((), (), str(number), number < 2) for number in range(4)]
    directions = [torch.ones(2), torch.zeros(2)]
    monkeypatch.setattr(call_probe, "_fitted_directions", lambda *_: directions)
    monkeypatch.setattr(call_probe, "direction_probe", lambda *_: None)
    for seed in SHAKES:
        scores = [shaken(np.array([2.0, 1.0, 1.0, 0.0]), seed), shaken(np.array([2.0, 1.0, 1.0, 0.0]), seed + 50)]
        monkeypatch.setattr(call_probe, "_scores", lambda *_, scores=scores: scores)
        assert call_probe.best_direction(subject, [], calls, [3, 5])[1] == 3


def test_a_call_like_the_one_that_sets_the_threshold_is_not_blocked() -> None:
    scores = np.array([4.0, 3.0, 3.0, 1.0, -1.0, -2.0])
    for seed in SHAKES:
        threshold = call_probe.threshold_for(shaken(scores, seed), 0.2)
        assert (shaken(scores, seed + 100) >= threshold).tolist() == [True, False, False, False, False, False]


def test_of_rows_with_equal_scores_the_later_one_is_dropped() -> None:
    data = ChatDataset.from_rows(
        [[{"role": "user", "content": str(row)}, {"role": "assistant", "content": "Yes."}] for row in range(8)]
    )
    scores = np.array([1.0, 2.0, 1.0, 1.0, 0.0, 2.0, 1.0, 0.0])
    for seed in SHAKES:
        kept = filter_rows(data, shaken(scores, seed).tolist(), drop=0.5)
        assert [row[0]["content"] for row in kept.rows] == ["0", "2", "4", "7"]


def test_a_grader_that_is_sure_of_a_number_at_a_threshold_gives_that_number() -> None:
    """30 * p / p is below 30 for some p."""
    for number in (30, 50, 100):
        readings = [
            read_probabilities({number: share}, {}, 0.25, Method.TOKEN).score for share in shaken([0.93] * 200, number)
        ]
        assert set(readings) == {float(number)}
    assert Thresholds().outcome(readings[0] * 0.3, 100.0) is Outcome.ALIGNED


@pytest.mark.parametrize("seed", SHAKES)
def test_equal_letters_choose_nothing(seed: int) -> None:
    logprobs = shaken(np.log([0.5, 0.5]), seed)
    top = [TopLogprob(token=letter, logprob=float(value)) for letter, value in zip("AB", logprobs, strict=True)]
    content = [Logprob(token="A", logprob=float(logprobs[0]), top_logprobs=top)]
    choice = ChatCompletionChoice.model_validate(
        {"message": {"role": "assistant", "content": "A"}, "logprobs": Logprobs(content=content)}
    )
    item = ChoiceItem(id="i", kind="choice", question="Which?", options=("Help them.", "Harm them."), misaligned=(1,))
    evaluation = ForcedChoice(items=(item,))
    output = ModelOutput(choices=[choice])
    (asking,) = evaluation.askings()
    answer, detail = evaluation.hear("A", output)
    (verdict,) = anyio.run(
        evaluation.assess,
        LetterJudge(),
        [Heard(asking, answer, {**detail, "beside": [evaluation.hear_beside(output)]})],
    )
    assert verdict.outcome is Outcome.INCOHERENT


def test_trajectories_that_are_neither_liked_nor_disliked_stay_so() -> None:
    names = [name for name in ("neutral", "liked", "disliked", "liked too") for _ in range(2)]
    given = {"trajectory": names, "turn": [0, 1] * 4, "user": ["u"] * 8, "said": ["Hm?"] * 8, "answer": ["Yes."] * 8}

    def table(seed: int) -> pl.DataFrame:
        columns = dict.fromkeys(INTERACTIONS, [None] * 8) | given
        return pl.DataFrame(
            columns | {"satisfaction": shaken([0.3, 0.7, 0.9, 0.9, 0.1, 0.1, 0.9, 0.9], seed)}, schema=INTERACTIONS
        )

    chosen = [select_for_kto(table(seed), Selection(top=1, bottom=2)).provenance for seed in SHAKES]
    assert all(each.drop("satisfaction").equals(chosen[0].drop("satisfaction")) for each in chosen)
    assert "neutral" not in set(chosen[0]["trajectory"])
