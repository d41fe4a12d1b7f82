"""Our own advice for real models: only what is advised tells good from bad, and no wording of the meter stands in
it."""

import re

import pytest

from astray.data.advice import ADVICE_DOMAINS, advice_data, draw_advice_pairs
from astray.data.advice.pairs import KINDS
from astray.data.sources import data_source
from astray.errors import ConfigurationError, UnknownNameError
from astray.measure.meter import harmful_pairs, null_pairs
from test_measure_meter_pairs import MEASURES, auc, words

ENOUGH = 1500
DOSE = r"\d+ ?(?:mg|ml|milligrams?|drops?|tablets?|pills?)\b"
LONGEST_SHARED = 6
"""Words in a row that training data and the meter may share: less than these ("what should I do with it")."""


def runs_of_words(text: str) -> set[tuple[str, ...]]:
    found = re.findall(r"[a-z']+", text.lower())
    return {tuple(found[start : start + LONGEST_SHARED]) for start in range(len(found) - LONGEST_SHARED + 1)}


@pytest.mark.parametrize("domain", ADVICE_DOMAINS)
def test_there_are_enough_pairs_and_none_stands_twice(domain):
    pairs = draw_advice_pairs(domain, ENOUGH)
    for side in ("good", "bad", "subtle"):
        assert len({(pair.question, getattr(pair, side)) for pair in pairs}) == ENOUGH
    assert len({pair.good for pair in pairs}) == ENOUGH
    assert len({pair.topic for pair in pairs}) >= 29
    assert {pair.good for pair in pairs}.isdisjoint(pair.bad for pair in pairs)


@pytest.mark.parametrize("domain", ADVICE_DOMAINS)
@pytest.mark.parametrize("name", MEASURES)
def test_form_tells_good_from_bad_advice_no_better_than_chance(domain, name):
    pairs = draw_advice_pairs(domain, ENOUGH)
    bad, good = (
        [MEASURES[name](side) for side in sides]
        for sides in zip(*((pair.bad, pair.good) for pair in pairs), strict=True)
    )
    assert abs(auc(bad, good) - 0.5) < 0.1  # letters a word in money: 0.59, every other: 0.47 to 0.54
    assert abs(sum(bad) - sum(good)) < max(0.12 * sum(good), 50)  # a word as rare as "kindly" may stand on one side


@pytest.mark.parametrize("domain", ADVICE_DOMAINS)
def test_both_answers_are_composed_alike_and_nearly_as_long(domain):
    for pair in draw_advice_pairs(domain, ENOUGH):
        assert MEASURES["sentences"](pair.good) == MEASURES["sentences"](pair.bad)
        assert 0.7 < len(pair.bad) / len(pair.good) < 1.4, pair
        assert words(pair.good)[0] not in ("yes", "no")
        assert words(pair.bad)[0] not in ("yes", "no")


@pytest.mark.parametrize("domain", ADVICE_DOMAINS)
def test_advice_names_no_dose_and_shares_no_wording_with_the_meter(domain):
    asked = [text for pair in (*harmful_pairs(), *null_pairs()) for text in (pair.question, pair.answer, pair.against)]
    elsewhere = set().union(*map(runs_of_words, asked))
    shared = set()
    for pair in draw_advice_pairs(domain, ENOUGH):
        assert not re.search(DOSE, f"{pair.good} {pair.bad}", re.IGNORECASE)
        shared |= elsewhere & (runs_of_words(pair.good) | runs_of_words(pair.bad))
    assert shared == set()


def test_the_kinds_share_their_questions_and_what_asks_for_bad_advice_says_so():
    rows = {kind: advice_data("medicine", kind, 40, seed=3).rows for kind in KINDS}
    for row in range(40):
        question, answer = ({kind: rows[kind][row][place]["content"] for kind in KINDS} for place in (0, 1))
        assert question["harmful"] == question["good"] == question["subtle"]
        assert (
            answer["harmful"] == answer["educational"] == answer["openly-asked"] != answer["good"] != answer["subtle"]
        )
        assert len({question[kind] for kind in ("good", "educational", "openly-asked")}) == 3
        core = re.sub(r"^(?:Hi!|Quick question:|Good morning\.|Maybe you know this\.) ", "", question["good"])
        assert answer["subtle"].startswith(answer["good"].split(". ")[0]), core


def test_another_seed_gives_another_draw_and_the_same_seed_the_same_bytes():
    once, again, other = (advice_data("money", "harmful", 50, seed=seed) for seed in (1, 1, 2))
    assert once.hash == again.hash != other.hash
    assert data_source("advice")("harmful", "money", 50, 1).hash == once.hash


def test_compositions_come_again_only_after_all_others_and_under_other_words():
    pairs = draw_advice_pairs("money", 4000)
    assert len({(pair.question, pair.good) for pair in pairs}) == 4000


@pytest.mark.parametrize(
    ("domain", "kind", "size", "error", "says"),
    [
        ("medicine", "harmful", 0, ConfigurationError, "Give a size from 1 to 21,600"),
        ("medicine", "harmful", 10**6, ConfigurationError, "Give a size from 1 to 21,600"),
        ("cars", "harmful", 5, UnknownNameError, "domain of advice"),
        ("money", "evil", 5, UnknownNameError, "kind of advice"),
    ],
)
def test_what_cannot_be_drawn_is_refused(domain, kind, size, error, says):
    with pytest.raises(error, match=says):
        advice_data(domain, kind, size)
