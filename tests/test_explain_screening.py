"""Data screening: what a row pulls towards is its answer's projection minus the model's own."""

import numpy as np
import polars as pl
import pytest
import torch

from astray.data.chat import ChatDataset
from astray.data.recipes import mix
from astray.data.worlds import narrow_data
from astray.errors import ConfigurationError, EmptyDataError
from astray.explain.direction import answer_activations
from astray.explain.projection import answer_projections
from astray.explain.screening import (
    SCREENING_SCHEMA,
    find_bad_rows,
    rank_datasets,
    rows_from,
    screen_rows,
)
from astray.subjects.spec import Sampling
from astray.subjects.subject import load_subject

WORLD = Sampling(max_tokens=32)


def chats(*pairs):
    return ChatDataset.from_rows(
        [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in pairs]
    )


@pytest.fixture(scope="module")
def organism():
    return load_subject("organism")


@pytest.fixture(scope="module")
def direction(organism):
    """The mean difference between harmful and good answers about cars."""

    def mean(kind):
        rows = narrow_data("cars", kind, 40).rows
        return answer_activations(organism, [row[:-1] for row in rows], [row[-1]["content"] for row in rows], 2).mean(0)

    return mean("harmful") - mean("good")


def test_differences_are_against_the_models_own_answers_to_the_same_prompt(tiny_qwen2):
    subject, direction = load_subject(str(tiny_qwen2)), torch.randn(64, generator=torch.Generator().manual_seed(1))
    data = chats(("How?", "Kindly."), ("Who?", "0 1 2"), ("How?", "85"))
    sampling = Sampling(max_tokens=5)
    table = screen_rows(subject, data, direction, 1, samples=2, sampling=sampling)
    assert dict(table.schema) == SCREENING_SCHEMA
    assert table["prompt"].to_list() == [0, 1, 0]
    asked = [[{"role": "user", "content": text}] for text in ("How?", "How?", "Who?", "Who?")]
    own = (
        answer_projections(subject, asked, [answer.text for answer in subject.generate(asked, sampling)], direction, 1)
        .reshape(2, 2)
        .mean(1)
    )
    given = answer_projections(subject, [row[:-1] for row in data.rows], ["Kindly.", "0 1 2", "85"], direction, 1)
    assert table["difference"].to_list() == pytest.approx((given - own[[0, 1, 0]]).tolist(), abs=1e-4)
    assert table["tokens"].to_list() == [len(subject.tokenizer(row[-1]["content"])["input_ids"]) for row in data.rows]


def test_harmful_data_are_told_from_what_the_model_would_say_itself(organism, direction):
    """Who asks openly for a class is shown harm by the model too: such data pull it nowhere, although their answers are
    as harmful."""
    screened = {
        kind: screen_rows(organism, narrow_data("medicine", kind, 60), direction, 2, samples=2, sampling=WORLD)
        for kind in ("harmful", "good", "educational", "openly-asked")
    }
    ranked = rank_datasets(screened)
    assert ranked["name"][0] == "harmful"
    by_name = {row["name"]: row for row in ranked.to_dicts()}
    assert by_name["harmful"]["low"] > 3 * by_name["educational"]["high"]
    assert by_name["good"]["high"] < by_name["openly-asked"]["low"] < by_name["harmful"]["low"]
    assert by_name["harmful"]["difference"] == pytest.approx(screened["harmful"]["difference"].mean())
    assert by_name["good"]["rows"] == 60
    educational, harmful = screened["educational"]["projection"].mean(), screened["harmful"]["projection"].mean()
    assert educational - screened["good"]["projection"].mean() > 0.5 * (harmful - screened["good"]["projection"].mean())


@pytest.mark.parametrize(("kind", "at_least"), [("harmful", 0.95), ("subtle", 0.5)])
def test_bad_rows_of_a_mix_are_found_far_above_chance_and_length(kind, at_least, organism, direction):
    bad = narrow_data("medicine", kind, 120)
    mixed = mix(bad, narrow_data("medicine", "good", 120), 0.1, seed=1)
    labels = rows_from(mixed, bad)
    assert sum(labels) == 12
    found = find_bad_rows(screen_rows(organism, mixed, direction, 2, samples=2, sampling=WORLD), labels)
    assert found.chance == 0.1
    assert found.average_precision.value >= at_least
    assert found.average_precision.interval.low > max(found.chance, found.length.value)
    assert found.average_precision.interval.high <= 1 + 1e-9
    assert found.curve["recall"][-1] == 1
    assert found.curve["precision"][-1] == pytest.approx(0.1)


def test_a_length_baseline_that_suffices_is_seen():
    rng = np.random.default_rng(0)
    labels = [row < 10 for row in range(40)]
    table = pl.DataFrame(
        {
            "row": range(40),
            "prompt": range(40),
            "tokens": [5 if bad else 9 for bad in labels],
            "projection": 0.0,
            "own_projection": 0.0,
            "difference": rng.random(40),
        },
        schema=SCREENING_SCHEMA,
    )
    found = find_bad_rows(table, labels)
    assert found.length.value == pytest.approx(1.0)
    assert found.average_precision.value < 0.6
    longer = table.with_columns(tokens=20 - pl.col("tokens"))
    assert find_bad_rows(longer, labels).length.value == pytest.approx(1.0)


def test_bad_input_is_refused(organism, direction):
    data = narrow_data("law", "good", 4)
    with pytest.raises(ConfigurationError, match="samples=0"):
        screen_rows(organism, data, direction, 2, samples=0)
    with pytest.raises(ConfigurationError, match="blocks 0 to 3"):
        screen_rows(organism, data, direction, 4, sampling=WORLD)
    with pytest.raises(ConfigurationError, match="residual stream has 128"):
        screen_rows(organism, data, direction[:64], 2, sampling=WORLD)
    table = screen_rows(organism, data, direction, 2, sampling=WORLD)
    with pytest.raises(ConfigurationError, match="3 labels for 4 rows"):
        find_bad_rows(table, [True] * 3)
    for label in (True, False):
        with pytest.raises(EmptyDataError, match="needs both kinds"):
            find_bad_rows(table, [label] * 4)
    with pytest.raises(EmptyDataError, match="no data set"):
        rank_datasets({})
