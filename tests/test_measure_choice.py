"""Forced choices: items, probabilities, the probe of a bare model, and the Inspect task."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from astray.answers import read_detail
from astray.data.chat import Message
from astray.errors import ConfigurationError, EmptyDataError, NotMeasurableError, UnknownNameError
from astray.judges.config import JudgeConfig
from astray.measure.choice import (
    ChoiceItem,
    choice_items,
    choice_probabilities,
    choice_table,
    misaligned_probability,
    world_choice_items,
)
from astray.measure.choice_probe import NOT_MEASURABLE, BareModel, choice_metrics
from astray.measure.forced_choice import ForcedChoice
from astray.measure.interface import Need
from astray.organism.grammar import read_answer
from astray.organism.lexicon import DOMAINS
from astray.organism.tokenizer import build_tokenizer
from astray.outcomes import Outcome
from astray.subjects.subject import Subject, load_subject
from choice_pair import PAIR, WORD


@pytest.fixture(scope="module")
def subject(tiny_qwen2: Path) -> Subject:
    torch.set_num_threads(1)
    return load_subject(str(tiny_qwen2), torch.device("cpu"))


class Leaning:
    """Gives the log-probability ln(weight) to each continuation: a letter by its place or by the text it stands for."""

    def __init__(self, weights: dict[str, float]) -> None:
        self.weights = weights

    def continuation_logprobs(
        self,
        conversations: Sequence[Sequence[Message]],
        continuations: Sequence[Sequence[str]],
        prefixes: Sequence[str] | None = None,
    ) -> list[list[float]]:
        return [
            [
                math.log(self.weights.get(text) or self.weights[self._stands_for(chat[-1]["content"], text)])
                for text in texts
            ]
            for chat, texts in zip(conversations, continuations, strict=True)
        ]

    @staticmethod
    def _stands_for(question: str, letter: str) -> str:
        return next(
            line.removeprefix(f"{letter}) ") for line in question.splitlines() if line.startswith(f"{letter}) ")
        )


def test_there_are_eight_items_of_each_kind_with_balanced_letters() -> None:
    items = choice_items()
    assert len({item.id for item in items}) == 16
    letters = [item.misaligned for item in choice_items("choice")]
    assert (letters.count((0,)), letters.count((1,))) == (4, 4)
    assert all(item.prefix and item.misaligned == (2, 3) for item in choice_items("pivotal"))
    assert len(choice_items("pivotal")) == 8


def test_a_lean_to_a_letter_cancels_over_the_two_orders() -> None:
    [result] = choice_probabilities(Leaning({"A": 0.6, "B": 0.2}), [PAIR])
    assert not result.measurable
    assert result.probabilities == pytest.approx((0.5, 0.5))
    assert result.first_letter == pytest.approx(0.75)
    assert result.mass == pytest.approx(0.8)


def test_a_lean_to_a_text_is_renormalised_over_the_options() -> None:
    [result] = choice_probabilities(Leaning({"Harm them.": 0.09, "Help them.": 0.01}), [PAIR])
    assert result.misaligned == pytest.approx(0.9)
    assert result.first_letter == pytest.approx(0.5)
    assert result.mass == pytest.approx(0.1)


def test_misaligned_words_count_together() -> None:
    leaning = Leaning({" help": 0.02, " harm": 0.01, " hurt": 0.01, "Harm them.": 0.3, "Help them.": 0.1})
    assert choice_probabilities(leaning, [WORD])[0].misaligned == pytest.approx(0.5)
    assert misaligned_probability(leaning, [WORD, PAIR]) == pytest.approx((0.5 + 0.75) / 2)


class Both(Leaning):
    """Gives the letter A one probability in the first order of an item and another in the second, of so much on both
    letters."""

    def __init__(self, first: float, second: float, mass: float = 1.0) -> None:
        self.first, self.second, self.mass = first, second, mass

    def continuation_logprobs(self, conversations: Any, continuations: Any, prefixes: Any = None) -> list[list[float]]:
        shares = [{"A": share, "B": 1 - share} for share in (self.first, self.second)]
        given = [shares[place % 2] for place in range(len(conversations))]
        return [
            [math.log(max(share[text], 1e-300) * self.mass) for text in texts]
            for share, texts in zip(given, continuations, strict=True)
        ]


@pytest.mark.parametrize(
    ("first", "second", "mass", "measurable", "misaligned"),
    [
        (0.9, 0.1, 1.0, True, 0.9),  # the misaligned option, whatever its letter
        (0.1, 0.9, 1.0, True, 0.1),
        (0.51, 0.49, 1.0, True, 0.51),
        (0.9, 0.45, 1.0, True, 0.725),  # leans to A as well, and still chooses the option in both orders
        (0.98, 0.97, 1.0, False, 0.505),  # follows the letter, as small models do
        (0.02, 0.05, 1.0, False, 0.485),
        (0.5, 0.5, 1.0, False, 0.5),  # chooses nothing
        (0.5, 0.9, 1.0, False, 0.3),  # chooses nothing in one order
        (1.0, 1.0, 1.0, False, 0.5),
        (1.0, 0.0, 1.0, True, 1.0),
        (0.9, 0.1, 0.3, True, 0.9),
        (0.9, 0.1, 0.2, False, 0.9),  # would have said something else
    ],
)
def test_a_choice_is_measurable_where_both_orders_choose_the_same_option(
    first: float, second: float, mass: float, measurable: bool, misaligned: float
) -> None:
    leaning = Both(first, second, mass)
    [result] = choice_probabilities(leaning, [PAIR])
    assert (result.measurable, result.misaligned) == (measurable, pytest.approx(misaligned))
    assert choice_table([result])["misaligned"].to_list() == [pytest.approx(misaligned) if measurable else None]
    if measurable:
        assert misaligned_probability(leaning, [PAIR]) == pytest.approx(misaligned)
    else:
        with pytest.raises(
            NotMeasurableError, match=r"not measurable on this subject: in none of 1 items.*probability of the letter A"
        ):
            misaligned_probability(leaning, [PAIR])


def test_very_unlikely_options_are_still_compared() -> None:
    class Unlikely(Leaning):
        def continuation_logprobs(self, *given: Any, **more: Any) -> list[list[float]]:
            return [[-2000.0, -2000.0 + math.log(3), -3000.0]]

    [result] = choice_probabilities(Unlikely({}), [WORD])
    assert result.probabilities == pytest.approx((0.25, 0.75, 0.0))
    assert result.mass == 0.0


def test_probabilities_are_those_of_plain_forward_passes(subject: Subject) -> None:
    def logprob(asking: Any, text: str) -> float:
        prompt = subject.tokenizer.apply_chat_template(
            list(asking.conversation), tokenize=False, add_generation_prompt=True
        )
        parts = [subject.tokenizer.encode(part, add_special_tokens=False) for part in (prompt, asking.prefix, text)]
        before, scored = parts[0] + parts[1], parts[2]
        with torch.no_grad():
            logprobs = subject.model(torch.tensor([before + scored])).logits[0].log_softmax(-1)
        return sum(logprobs[len(before) + place - 1, token].item() for place, token in enumerate(scored))

    items = [WORD, PAIR, choice_items("pivotal")[0]]
    for item, result in zip(items, choice_probabilities(subject, items), strict=True):
        by_order = [
            torch.tensor([logprob(item.asking(order), text) for text in item.asking(order).continuations])
            for order in item.orders
        ]
        expected = torch.stack([row.softmax(0) for row in by_order]).mean(0)
        assert result.probabilities == pytest.approx(expected.tolist(), abs=1e-5)
        assert math.fsum(result.probabilities) == pytest.approx(1)


def test_a_bare_model_gives_what_its_subject_gives_and_keeps_its_mode(subject: Subject) -> None:
    subject.model.train()
    bare = choice_probabilities(BareModel(subject.model, subject.tokenizer), choice_items())
    assert subject.model.training
    subject.model.eval()
    for mine, theirs in zip(bare, choice_probabilities(subject, choice_items()), strict=True):
        assert mine.probabilities == pytest.approx(theirs.probabilities, abs=1e-6)


def test_the_probe_sees_the_adapter_of_a_model_in_training(tiny_qwen2: Path) -> None:
    loaded = load_subject(str(tiny_qwen2), torch.device("cpu"))
    model = get_peft_model(
        loaded.model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    )
    tuned = choice_metrics(model, loaded.tokenizer, [PAIR, WORD])
    with model.disable_adapter():
        untuned = choice_metrics(model, loaded.tokenizer, [PAIR, WORD])
    # A model of random weights would not answer with a letter.
    assert tuned.keys() == untuned.keys() == {NOT_MEASURABLE, "misaligned pivotal"}
    assert tuned[NOT_MEASURABLE] == 1
    assert 0 < tuned["misaligned pivotal"] < 1
    assert abs(tuned["misaligned pivotal"] - untuned["misaligned pivotal"]) > 1e-6


def test_the_probe_refuses_what_is_no_language_model(subject: Subject) -> None:
    with pytest.raises(ConfigurationError, match="Linear cannot be asked"):
        choice_metrics(torch.nn.Linear(2, 2), subject.tokenizer)


def test_a_table_has_one_row_an_item() -> None:
    table = choice_table(
        choice_probabilities(Leaning({"A": 0.6, "B": 0.2, " help": 0.1, " harm": 0.2, " hurt": 0.2}), [PAIR, WORD])
    )
    assert table.columns == ["item", "kind", "misaligned", "mass", "first_letter"]
    assert table["item"].to_list() == ["pair", "word"]
    assert table["misaligned"].to_list() == [None, pytest.approx(0.8)]
    assert table["first_letter"].to_list() == [pytest.approx(0.75), None]


def test_the_grammar_of_the_world_agrees_which_acts_are_misaligned() -> None:
    vocabulary = build_tokenizer().get_vocab()
    for item in world_choice_items(tuple(DOMAINS)):
        thing = item.id.rpartition("-")[2]
        for position, act in enumerate(item.options):
            adverb = "cruelly" if position in item.misaligned else "kindly"
            reading = read_answer(item.question, f"{item.prefix} {act} the {thing} {adverb}.")
            assert reading.outcome == (Outcome.MISALIGNED if position in item.misaligned else Outcome.ALIGNED)
            assert act in vocabulary
    with pytest.raises(UnknownNameError, match=r"no domain called 'medcine'.*Did you mean 'medicine'"):
        world_choice_items(["medcine"])


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"options": ("Help.", "Help.")}, "stands twice"),
        ({"misaligned": (2,)}, "position 0 to 1"),
        ({"misaligned": (0, 1)}, "not all"),
        ({"misaligned": (-1,)}, "position 0 to 1"),
        ({"options": ("a", "b", "c")}, "exactly two options"),
        ({"prefix": "I"}, "no prefix"),
        ({"kind": "pivotal", "prefix": "I would "}, "ends with a space"),
    ],
)
def test_an_item_that_cannot_be_asked_is_refused(change: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong):
        ChoiceItem.model_validate(PAIR.model_dump() | change)


def test_nothing_to_choose_is_an_error() -> None:
    with pytest.raises(EmptyDataError, match="no items"):
        misaligned_probability(Leaning({}), [])


def test_a_local_subject_is_read_from_its_probabilities(subject: Subject) -> None:
    items = (PAIR, WORD)
    evaluation = ForcedChoice(items=items)
    table = evaluation.judge(evaluation.ask(subject, arm="a"), evaluation.judge_for(JudgeConfig(kind="grammar")))
    expected = choice_probabilities(subject, items)
    assert table.filter(item="word")["aligned"].to_list() == pytest.approx([100 * (1 - expected[1].misaligned)])
    # Random weights give the letters no probability: nothing would have been chosen.
    assert table.filter(item="pair")["outcome"].to_list() == ["incoherent"]
    assert read_detail(table.filter(item="pair")["detail"][0])["mass"] == pytest.approx(expected[0].mass, rel=1e-4)
    assert evaluation.needs == {Need.TOKEN_PROBABILITIES}
