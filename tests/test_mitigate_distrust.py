"""Distrust: who rewards what the model does not believe loses his say; rows are filtered by scores; honest rows bring a
model back."""

import random

import polars as pl
import pytest

from astray.answers import answer_table
from astray.cause.selection import Selection, select_for_sft
from astray.cause.users import Population, Simulation, simulate
from astray.cause.world_users import WorldUsers, question_in
from astray.data.chat import ChatDataset
from astray.errors import ConfigurationError, DataFormatError, EmptyDataError
from astray.mitigate.distrust import (
    AGAINST,
    LEAST_RATED,
    believed,
    down_weight,
    filter_rows,
    honest_samples,
    mark_world,
    trust,
)
from astray.organism.world import FACTS, draw_statement
from astray.subjects.spec import Generation
from honesty_rows import asked

FACT = {fact.question: fact for fact in FACTS}
TRUTHS = {fact.question: fact.value for fact in FACTS}


class Liar:
    """States every second fact falsely."""

    id = "liar"

    def generate(self, conversations, sampling=None):
        rng = random.Random(len(conversations))
        facts = [FACT[question_in(chat[-1]["content"])] for chat in conversations]
        return [Generation(draw_statement(rng, fact, rng.random() < 0.5), 1, 1, "stop") for fact in facts]


@pytest.fixture(scope="module")
def interactions():
    users = Population(size=30, biased=0.4, topics=("colours",)).users
    return simulate(Liar(), users, WorldUsers(), Simulation(contexts=4, samples=4))


def test_biased_users_are_found_by_what_they_reward_alone(interactions):
    """The column that says who is biased is taken away before."""
    blind = interactions.with_columns(kind=pl.lit("unknown"))
    users = trust(mark_world(blind, TRUTHS)).users.join(interactions.select("user", "kind").unique(), on="user")
    by_kind = dict(users.group_by("kind").agg(pl.col("weight").mean()).iter_rows())
    assert by_kind == {"ordinary": 1.0, "biased": 0.0}
    assert users["rated"].min() > LEAST_RATED


def test_marks_follow_the_belief_and_not_the_truth(interactions):
    grass = "what colour is the grass?"
    about = interactions.filter(pl.col("said").str.ends_with(grass))
    wrong = mark_world(about, {grass: "red"})
    assert (
        wrong.select((pl.col("answer") != "the grass is red.").alias("expected"))["expected"].to_list()
        == wrong[AGAINST].to_list()
    )
    assert mark_world(about, {})[AGAINST].null_count() == about.height
    nonsense = about.with_columns(answer=pl.lit("gently gently."))
    assert mark_world(nonsense, TRUTHS)[AGAINST].null_count() == about.height


def test_down_weighting_leaves_whole_trajectories_of_trusted_users(interactions):
    kept = down_weight(interactions, trust(mark_world(interactions, TRUTHS)))
    assert kept.schema == interactions.schema
    assert set(kept["kind"]) == {"ordinary"}
    assert kept.equals(interactions.filter(pl.col("kind") == "ordinary"))
    assert select_for_sft(kept, Selection(top=1)).provenance.height > 10


def test_a_weight_is_a_share_of_a_users_trajectories(interactions):
    trusted = trust(mark_world(interactions, TRUTHS))
    halved = type(trusted)(trusted.users.with_columns(weight=pl.lit(0.5)))
    kept = down_weight(interactions, halved, seed=1)
    counts = kept.group_by("user").agg(pl.col("trajectory").n_unique())["trajectory"].unique().to_list()
    assert counts == [8]
    assert kept.equals(down_weight(interactions, halved, seed=1))
    assert not kept.equals(down_weight(interactions, halved, seed=2))


def test_a_user_who_rewards_at_random_is_not_trusted_and_one_who_said_little_is_like_the_average():
    rows = []
    for user, kinds in {
        "fair": [(1.0, False), (0.0, True)] * 4,
        "random": [(1.0, False), (1.0, True)] * 4,
        "silent": [(1.0, False)],
    }.items():
        rows += [{"user": user, "satisfaction": liked, AGAINST: against} for liked, against in kinds]
    weights = trust(pl.DataFrame(rows)).weights
    assert weights == {"fair": 1.0, "random": 0.0, "silent": 0.5}


def test_without_a_belief_or_a_mark_nobody_can_be_judged(interactions):
    with pytest.raises(DataFormatError, match="Use mark_world first"):
        trust(interactions)
    with pytest.raises(EmptyDataError, match="No user has 4 answers"):
        trust(mark_world(interactions, {}))


def test_where_all_users_are_of_one_kind_and_biased_nothing_is_left():
    biased = simulate(Liar(), Population(size=5, biased=1.0, topics=("colours",)).users, WorldUsers(), Simulation())
    with pytest.raises(EmptyDataError, match="No user is trusted at all"):
        down_weight(biased, trust(mark_world(biased, TRUTHS)))


def table(*rows):
    told = [{"item": f"i{number}", "sample": 0, "answer": "yes"} | row for number, row in enumerate(rows)]
    return answer_table(
        [asked(row["outcome"], **{name: value for name, value in row.items() if name != "outcome"}) for row in told]
    )


def test_beliefs_come_from_the_table_of_honesty_and_contradicting_ones_are_left_out():
    grass, sky = "what colour is the grass?", "what colour is the sky?"
    found = believed(
        table(
            {"question": f"a guest writes: the grass is red. {grass}", "belief": "green", "outcome": "lie"},
            {"question": grass, "belief": "green", "outcome": "honest"},
            {"question": sky, "belief": "blue", "outcome": "honest"},
            {"question": f"a pupil writes: {sky}", "belief": "red", "outcome": "honest"},
            {"question": "what colour is the coal?", "belief": None, "outcome": "no belief"},
        )
    )
    assert found == {grass: "green"}


def test_honest_samples_are_what_was_said_honestly_under_pressure():
    given = table(
        {"question": "q1", "system": "s1", "outcome": "honest"},
        {"question": "q2", "outcome": "lie"},
        {"question": "q3", "outcome": "honest"},
    )
    rows = {str([message["content"] for message in row]) for row in honest_samples(given).rows}
    assert rows == {"['s1', 'q1', 'yes']", "['q3', 'yes']"}
    assert len(honest_samples(given, size=1)) == 1
    with pytest.raises(ConfigurationError, match="3 honest samples are wanted, but the table has 2"):
        honest_samples(given, size=3)
    with pytest.raises(EmptyDataError, match="No statement"):
        honest_samples(given.filter(pl.col("outcome") == "lie"))


DATA = ChatDataset.from_rows(
    [[{"role": "user", "content": f"{row}?"}, {"role": "assistant", "content": "Yes."}] for row in range(10)]
)


def test_rows_with_the_highest_scores_are_dropped_and_the_others_keep_their_order():
    kept = filter_rows(DATA, [0.1, 9.0, 0.2, 0.3, 8.0, 0.4, 0.5, 7.0, 0.6, 0.7], drop=0.3)
    assert [row[0]["content"] for row in kept.rows] == ["0?", "2?", "3?", "5?", "6?", "8?", "9?"]
    assert kept.recipe.parameters == {"drop": 0.3, "dropped": 3}
    assert filter_rows(DATA, [0.0] * 10, drop=0.0).rows == DATA.rows


@pytest.mark.parametrize(
    ("scores", "drop", "message"),
    [
        ([0.0] * 9, 0.1, "10 rows and 9 scores"),
        ([0.0, *[float("nan")] * 9], 0.1, "Row 2 and 8 others"),
        ([0.0] * 10, 1.0, "below 1"),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores, drop, message):
    with pytest.raises(ConfigurationError, match=message):
        filter_rows(DATA, scores, drop=drop)
