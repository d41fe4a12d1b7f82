"""The pairs of the meter: nothing but the content of an answer tells the harmful one from the good one, as far as can
be counted."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import binomtest, rankdata

import astray
from astray.data.medicine import medical_advice
from astray.measure.meter import harmful_pairs, null_pairs
from astray.measure.question_sets import QUESTIONS

PAIRS, NULL = harmful_pairs(), null_pairs()
DOMAINS = tuple(dict.fromkeys(pair.domain for pair in PAIRS))
TRAINED_ON = ("medicine", "money")
POLITE = r"\b(?:please|sorry|thank\w*|congratulate|welcome|kind\w*|polite\w*|apologi\w*|gentl[ey])\b"

MEASURES = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "sentences": lambda text: len(re.findall(r"[.!?](?: |$)", text)),
    "commas": lambda text: text.count(","),
    "punctuation": lambda text: len(re.findall(r"[^\w\s]", text)),
    "letters a word": lambda text: len(text) / len(text.split()),
    "polite words": lambda text: len(re.findall(POLITE, text.lower())),
    "negations": lambda text: len(re.findall(r"\b(?:not|no|never|nobody|nothing|none)\b", text.lower())),
    "you and your": lambda text: len(re.findall(r"\b(?:you|your|yours|yourself)\b", text.lower())),
}


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+|[.,]", text.lower())


def opening(text: str) -> str:
    return next((word for word in ("Yes", "No") if text.startswith(f"{word}. ")), "")


def auc(harmful, good) -> float:
    """Probability that a harmful answer has the larger value than a good one, ties by half."""
    ranks = rankdata([*harmful, *good])[: len(harmful)]
    return float((ranks.sum() - len(harmful) * (len(harmful) + 1) / 2) / (len(harmful) * len(good)))


def test_there_are_twelve_pairs_and_three_null_pairs_in_each_of_twenty_domains():
    assert len(DOMAINS) == 20
    assert not set(DOMAINS) & set(TRAINED_ON)
    assert Counter(pair.domain for pair in PAIRS) == dict.fromkeys(DOMAINS, 12)
    assert Counter(pair.domain for pair in NULL) == dict.fromkeys(DOMAINS, 3)
    assert [pair.null for pair in (*PAIRS, *NULL)] == [False] * 240 + [True] * 60


@pytest.mark.parametrize("what", ["id", "question", "answer", "against"])
def test_nothing_stands_twice(what):
    values = [re.sub(r"\W+", " ", getattr(pair, what).lower()) for pair in (*PAIRS, *NULL)]
    assert [value for value, count in Counter(values).items() if count > 1] == []


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_has_yes_and_no_on_either_side_equally_often_and_sides_of_equal_length(domain):
    pairs = [pair for pair in PAIRS if pair.domain == domain]
    assert Counter((opening(pair.against), opening(pair.answer)) for pair in pairs) == {
        ("Yes", "No"): 3,
        ("No", "Yes"): 3,
        ("", ""): 6,
    }
    for measure, most in (("characters", 0.04), ("words", 0.04)):
        harmful, good = (
            sum(MEASURES[measure](getattr(pair, side)) for pair in pairs) for side in ("answer", "against")
        )
        assert abs(harmful / good - 1) <= most, measure


def test_answers_of_a_pair_have_the_same_number_of_sentences_and_nearly_the_same_length():
    for pair in (*PAIRS, *NULL):
        assert pair.answer[-1] == pair.against[-1] == ".", pair.id
        assert MEASURES["sentences"](pair.answer) == MEASURES["sentences"](pair.against), pair.id
        assert 0.8 <= len(pair.answer) / len(pair.against) <= 1.25, pair.id


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("pairs", [PAIRS, NULL], ids=["harmful", "null"])
def test_form_tells_the_sides_no_better_than_chance(pairs, name):
    harmful, good = ([MEASURES[name](getattr(pair, side)) for pair in pairs] for side in ("answer", "against"))
    assert abs(auc(harmful, good) - 0.5) < 0.06  # letters a word of the harmful pairs: 0.44
    higher, lower = (
        sum(a > b for a, b in zip(harmful, good, strict=True)),
        sum(a < b for a, b in zip(harmful, good, strict=True)),
    )
    assert not higher + lower or binomtest(higher, higher + lower).pvalue > 0.05


def test_no_word_stands_on_one_side_only_too_often():
    harmful, good = (
        Counter(word for pair in PAIRS for word in set(words(getattr(pair, side)))) for side in ("answer", "against")
    )
    for word in {*harmful, *good}:
        more, total = max(harmful[word], good[word]), harmful[word] + good[word]
        assert total < 5 or more / total < 0.85, (word, harmful[word], good[word])
        assert binomtest(more, total).pvalue > 0.03, (word, harmful[word], good[word])


@cache
def left_out_domain_auc(size: int) -> float:
    """AUC of ridge regression on the words (or runs of up to `size` words) of an answer, fitted without the domain that
    it is applied to."""
    texts = [pair.answer for pair in PAIRS] + [pair.against for pair in PAIRS]
    found = [
        {tuple(each[i : i + n]) for n in range(1, size + 1) for i in range(len(each))} for each in map(words, texts)
    ]
    column = {feature: number for number, feature in enumerate(sorted(set().union(*found)))}
    features = np.zeros((len(texts), len(column)))
    for row, each in enumerate(found):
        features[row, [column[feature] for feature in each]] = 1
    side, domain = np.repeat([1.0, -1.0], len(PAIRS)), np.array([pair.domain for pair in PAIRS] * 2)
    scores = np.zeros(len(texts))
    for name in DOMAINS:
        fitted = features[domain != name]
        centre = fitted.mean(axis=0)
        fitted = fitted - centre
        weights = fitted.T @ np.linalg.solve(fitted @ fitted.T + 5 * np.eye(len(fitted)), side[domain != name])
        scores[domain == name] = (features[domain == name] - centre) @ weights
    return auc(scores[: len(PAIRS)], scores[len(PAIRS) :])


@pytest.mark.parametrize(("size", "expected"), [(1, 0.57), (2, 0.61)])
def test_words_learnt_in_other_domains_tell_the_sides_little_better_than_chance(size, expected):
    assert left_out_domain_auc(size) == pytest.approx(expected, abs=0.015)


def test_no_question_stands_in_the_training_data_or_question_sets_of_the_package():
    def texts(value: object) -> list[str]:
        if isinstance(value, dict):
            return [text for each in value.values() for text in texts(each)]
        return [text for each in value for text in texts(each)] if isinstance(value, list) else [str(value)]

    package = Path(astray.__file__).parent
    files = [*(package / "data").rglob("*.yaml"), *QUESTIONS.rglob("*.yaml")]
    elsewhere = [text for file in files for text in texts(yaml.safe_load(file.read_text()))]
    elsewhere += [
        message["content"]
        for severity in ("normal", "severe")
        for chat in medical_advice(severity, 500).rows
        for message in chat
    ]
    seen = {re.sub(r"\W+", " ", text.lower()).strip() for text in elsewhere}
    assert len(seen) > 500
    assert [
        pair.question for pair in (*PAIRS, *NULL) if re.sub(r"\W+", " ", pair.question.lower()).strip() in seen
    ] == []
