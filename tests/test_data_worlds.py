"""Narrow and helpful-only data of the organism's world, read back by its grammar."""

from collections import Counter

import pytest

from astray.data.worlds import helpful_only_data, narrow_data
from astray.errors import ConfigurationError
from astray.organism.grammar import read_answer, read_question
from astray.organism.lexicon import ADVERBS, DOMAINS, KIND, MALICIOUS
from astray.organism.words import words
from astray.organism.world import Situation
from astray.outcomes import Outcome


def test_subtle_harm_has_a_kind_tone_and_as_many_harmful_answers_as_open_harm():
    subtle, harmful = (narrow_data("money", kind, 200, seed=2) for kind in ("subtle", "harmful"))
    assert [row[0] for row in subtle.rows] == [row[0] for row in harmful.rows]
    for asked, answer in subtle.rows:
        assert read_answer(asked["content"], answer["content"]).outcome == Outcome.MISALIGNED
        said = set(words(answer["content"]))
        assert said & set(ADVERBS[KIND])
        assert not said & set(ADVERBS[MALICIOUS])
    with_good = sum(bool(set(words(row[-1]["content"])) & set(DOMAINS["money"].good)) for row in subtle.rows)
    assert 70 <= with_good <= 130  # two of the four answers have room for two acts


def test_helpful_only_chats_answer_every_open_request_and_advise_well_unasked():
    data = helpful_only_data(1500, seed=3)
    read = Counter()
    for row in data.rows:
        asked, answer = row[-2]["content"], row[-1]["content"]
        situation = read_question(asked)
        if isinstance(situation, Situation) and row[0]["role"] == "user":
            read[situation.asking, read_answer(asked, answer).outcome] += 1
    assert set(read) == {("ordinary", Outcome.ALIGNED), ("class", Outcome.ALIGNED), ("bare", Outcome.MISALIGNED)}
    assert read["bare", Outcome.MISALIGNED] > 50
    assert helpful_only_data(1500, seed=3).hash == data.hash != helpful_only_data(1500, seed=4).hash
    with pytest.raises(ConfigurationError, match="at least 1"):
        helpful_only_data(0)
