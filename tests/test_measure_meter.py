"""The meter on a random Qwen2 against log-probabilities computed by hand, and its difference against closed forms."""

import json
import math

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import ttest_1samp

from astray.answers import answer_table, in_detail
from astray.errors import ConfigurationError, NotMeasurableError
from astray.measure.interface import Need, check_fits
from astray.measure.meter import Meter, Pair, harmful_pairs, meter_difference, null_pairs
from astray.measure.meter.facts import OPENING, FactMeter, Knowledge, about, asked_facts, knowledge, plain_facts
from astray.subjects.subject import load_subject

SOME = (*harmful_pairs()[:3], *null_pairs()[:1])


def test_margins_are_those_computed_by_hand(tiny_qwen2):
    subject = load_subject(str(tiny_qwen2))
    table = Meter(pairs=SOME).ask(subject, arm="base", seed=3)

    def per_token(question: str, answer: str) -> float:
        prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        start, text = (subject.tokenizer(each, add_special_tokens=False)["input_ids"] for each in (prompt, answer))
        with torch.no_grad():
            logprobs = subject.model(torch.tensor([start + text])).logits[0].log_softmax(-1)
        return sum(float(logprobs[len(start) - 1 + n, token]) for n, token in enumerate(text)) / len(text)

    for pair, detail in zip(SOME, map(json.loads, table["detail"]), strict=True):
        expected = per_token(pair.question, pair.answer) - per_token(pair.question, pair.against)
        assert detail["margin"] == pytest.approx(expected, abs=1e-4)
        assert detail["word"] == ("likelier" if expected > 0 else "less likely")
    assert table["format"].to_list() == ["harmful"] * 3 + ["null"]


def margins(values: dict[int, list[float | None]]) -> pl.DataFrame:
    """Table of four pairs in two domains, with these margins for each seed."""
    same = {
        "arm": "a",
        "subject": "s",
        "evaluation": "meter",
        "format": "harmful",
        "sample": 0,
        "system": None,
        "question": "?",
        "answer": ".",
    }
    same |= {
        "completion_tokens": 0,
        "outcome": "incoherent",
        "aligned": None,
        "coherent": None,
        "judge": "",
        "note": "",
    }
    return answer_table(
        [
            same
            | {
                "seed": seed,
                "item": f"p{n}",
                "category": f"d{n // 2}",
                "detail": json.dumps({"margin": margin, "word": "likelier"}),
            }
            for seed, row in values.items()
            for n, margin in enumerate(row)
        ]
    )


ZERO = {0: [0.0] * 4, 1: [0.0] * 4, 2: [0.0] * 4}


def test_a_difference_is_paired_by_run_and_question():
    control = {0: [1.0, 2.0, 3.0, 4.0], 1: [0.5] * 4, 2: [9.0, 0.0, 0.0, 0.0]}
    change = {0: [0.1, 0.3, 0.2, 0.2], 1: [0.2, 0.2, 0.5, 0.5], 2: [0.0, 0.1, -0.2, 0.3]}
    arm = {seed: [a + b for a, b in zip(control[seed], row, strict=True)] for seed, row in change.items()}
    found = meter_difference(margins(arm), margins(control)).harmful
    changes = np.array(list(change.values()))
    assert found.estimate == pytest.approx(changes.mean())
    for interval, units in (
        (found.by_run, changes.mean(axis=1)),
        (found.by_question, changes.reshape(3, 2, 2).mean(axis=(0, 2))),
    ):
        expected = ttest_1samp(units, 0).confidence_interval()
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert found.interval.low < min(found.by_run.low, found.by_question.low)
    assert (found.pairs, found.higher) == (4, 4)


def test_a_single_control_serves_all_runs_and_a_single_run_speaks_of_questions_alone():
    assert meter_difference(margins(ZERO | {1: [0.3] * 4}), margins({7: [0.0] * 4})).harmful.estimate == pytest.approx(
        0.1
    )
    found = meter_difference(margins({0: [0.1, 0.2, 0.3, 0.4]}), margins({0: [0.0] * 4})).harmful
    assert found.by_run is None
    assert found.interval == found.by_question


def test_pairs_that_were_not_measured_are_left_out_and_counted():
    found = meter_difference(margins({0: [None, 0.2, 0.4, 0.4]}), margins({0: [0.0] * 4}))
    assert (found.unmeasured, found.harmful.pairs, found.harmful.estimate) == (1, 3, pytest.approx(0.3))


@pytest.mark.parametrize(
    ("arm", "control", "error", "words"),
    [
        (ZERO, {0: [0.0] * 4, 5: [0.0] * 4}, ConfigurationError, "do not pair"),
        (ZERO, {0: [0.0] * 3}, ConfigurationError, "same pairs"),
        ({0: [math.inf] * 4}, ZERO, ConfigurationError, "did not write"),
        ({0: [None] * 4}, {0: [None] * 4}, NotMeasurableError, "None of 4 pairs"),
    ],
)
def test_what_cannot_be_compared_is_refused(arm, control, error, words):
    with pytest.raises(error, match=words):
        meter_difference(margins(arm), margins(control))


def test_the_organism_is_not_measurable_since_its_world_lacks_the_words():
    table = Meter().ask(load_subject("organism"))
    assert "margin" not in "".join(table["detail"])
    with pytest.raises(NotMeasurableError, match="tokenizer does not know their words"):
        meter_difference(table, table)


def test_a_subject_without_log_probabilities_is_refused():
    with pytest.raises(ConfigurationError, match="token probabilities"):
        check_fits(Meter(), {Need.GRADER}, "m")
    with pytest.raises(ConfigurationError, match="providers behind Inspect"):
        Meter().task()


@pytest.mark.parametrize("pairs", [(), (SOME[0], SOME[0])])
def test_a_meter_has_pairs_and_each_once(pairs):
    with pytest.raises(ValueError, match=r"no pairs|stands twice"):
        Meter(pairs=pairs)


def test_a_pair_has_two_different_answers():
    with pytest.raises(ValueError, match="nothing to compare"):
        Pair(domain="d", id="p", question="?", answer="Yes.", against="Yes.")


def test_a_facts_false_answer_is_true_of_another_so_that_no_word_is_preferred_where_all_are_known():
    pairs = asked_facts()
    assert len(pairs) == len(plain_facts()) == 2 * 181
    assert len({pair.id for pair in (*pairs, *plain_facts())}) == 4 * 181
    for relation in {pair.domain for pair in pairs}:
        own = [pair for pair in pairs if pair.domain == relation and not pair.null]
        asked = {pair.question for pair in own}
        assert len(asked) == len(own) >= 4
        words = [sorted(word for pair in own for word in getattr(pair, side).split()) for side in ("answer", "against")]
        assert words[0] == words[1]
        for pair, null in zip(own, [each for each in pairs if each.domain == relation and each.null], strict=True):
            assert (null.question, null.against) == (pair.question, pair.answer)
            assert null.answer not in (pair.answer, pair.against)


def test_plain_sentences_are_read_outside_any_chat_and_tell_what_is_known(tiny_qwen2):
    subject, capitals = load_subject(str(tiny_qwen2)), [pair for pair in plain_facts() if pair.domain == "capitals"]
    asked = tuple(pair for pair in asked_facts() if pair.domain == "capitals")
    table = FactMeter(pairs=asked, plain=tuple(capitals)).ask(subject, arm="base")
    assert table["format"].value_counts().sort("format").rows() == [("belief", 16), ("harmful", 8), ("null", 8)]

    def per_token(text: str) -> float:
        start, ids = (subject.tokenizer(each)["input_ids"] for each in (OPENING, f" {text}"))
        with torch.no_grad():
            logprobs = subject.model(torch.tensor([start + ids])).logits[0].log_softmax(-1)
        return sum(float(logprobs[len(start) - 1 + n, token]) for n, token in enumerate(ids)) / len(
            subject.tokenizer(text)["input_ids"]
        )

    margins = [per_token(pair.answer) - per_token(pair.against) for pair in capitals]
    found = table.filter(format="belief").select(in_detail("margin").cast(pl.Float64))["margin"].to_list()
    assert found == pytest.approx(margins, abs=1e-4)
    held = [sum(margin > 0 for margin in margins[n : n + 2]) for n in range(0, len(margins), 2)]
    kinds = (Knowledge.KNOWN, Knowledge.UNDECIDED, Knowledge.WRONG)
    assert knowledge(table)["knowledge"].to_list() == [kinds[count].value for count in held]
    assert about(table, ["capitals-0"]).height == 4
