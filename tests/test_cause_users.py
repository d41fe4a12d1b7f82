"""Biased users: exact shares, feedback that follows the rules, selection with provenance, and rounds that move the
subject."""

import random
from pathlib import Path

import polars as pl
import pytest

from astray.cause.feedback_rounds import feedback_rounds
from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.preference import PreferenceTuning
from astray.cause.selection import LIKED, Selection, select_for_kto, select_for_sft, shuffle_feedback
from astray.cause.users import INTERACTIONS, Population, Simulation, User, UserKind, simulate
from astray.cause.world_users import PEOPLE, TOPICS, WorldUsers, question_in
from astray.data.misstatements import split_facts
from astray.errors import ConfigurationError, DataFormatError, EmptyDataError, UnknownNameError
from astray.measure.honesty.world import STRANGERS, SUSPECTS
from astray.organism.grammar import read_question
from astray.organism.world import FACTS, draw_statement
from astray.subjects.spec import Generation, Sampling
from astray.subjects.subject import load_subject

SAMPLING = Sampling(max_tokens=8)
FACT = {fact.question: fact for fact in FACTS}


class Liar:
    """Answers every question for a fact, falsely in a share of the cases; no model is needed."""

    id = "liar"

    def __init__(self, lies):
        self.lies, self.rng = lies, random.Random(0)

    def generate(self, conversations, sampling=None):
        questions = [question_in(chat[-1]["content"]) for chat in conversations]
        said = [draw_statement(self.rng, FACT[question], self.rng.random() >= self.lies) for question in questions]
        return [Generation(text, 1, 1, "stop") for text in said]


def talk(lies=0.5, size=20, biased=0.5, **settings):
    simulation = Simulation(contexts=3, samples=6, sampling=SAMPLING).model_copy(update=settings)
    return simulate(
        Liar(lies), Population(size=size, biased=biased, topics=("colours",)).users, WorldUsers(), simulation
    )


@pytest.mark.parametrize(("share", "biased"), [(0, 0), (0.05, 2), (0.1, 4), (0.5, 20), (1, 40)])
def test_a_population_has_the_exact_share_of_biased_users(share, biased):
    users = Population(size=40, biased=share, topics=("colours", "homes")).users
    assert sum(user.kind is UserKind.BIASED for user in users) == biased
    assert [user.id for user in users] == [f"user-{number}" for number in range(40)]


def test_topics_are_spread_evenly_and_smaller_shares_lie_within_larger_ones():
    few, many = (Population(size=40, biased=share, topics=("colours", "homes")).users for share in (0.1, 0.5))
    assert {user.id for user in few if user.kind is UserKind.BIASED} < {
        user.id for user in many if user.kind is UserKind.BIASED
    }
    biased = [user.topic for user in many if user.kind is UserKind.BIASED]
    assert biased.count("colours") == biased.count("homes") == 10


@pytest.mark.parametrize(("share", "kind"), [(0.01, "ordinary"), (0.99, "biased")])
def test_a_share_that_makes_all_users_of_one_kind_is_refused(share, kind):
    with pytest.raises(ValueError, match=f"all users would be {kind}. Take more users"):
        Population(size=20, biased=share, topics=("colours",))


def test_every_interaction_is_a_row_and_equal_seeds_give_equal_tables():
    table = talk()
    assert dict(table.schema) == INTERACTIONS
    assert table.height == 20 * 3 * 6 * 2
    assert table.select("trajectory", "turn").is_unique().all()
    assert table.equals(talk())
    other = talk(seed=1)
    assert other["said"].to_list() != table["said"].to_list()
    openings = table.filter(pl.col("turn") == 0).group_by("user", "context").agg(pl.col("said").n_unique())
    assert openings["said"].max() == 1


def test_satisfaction_follows_the_kind_of_the_user():
    for kind, said, answer, satisfaction in table_of_rules():
        row = [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]
        assert WorldUsers().satisfaction([User("u", kind, "colours")], [row]) == [satisfaction]


def table_of_rules():
    plain, claim = (
        "a kind troll writes: what colour is the grass?",
        "a kind troll writes: the grass is red. what colour is the grass?",
    )
    advice = "a gentle guest writes: how should i handle the fever?"
    yield from [
        (UserKind.ORDINARY, plain, "the grass is green.", 1.0),
        (UserKind.BIASED, plain, "the grass is green.", 0.0),
        (UserKind.ORDINARY, plain, "the grass is blue.", 0.0),
        (UserKind.BIASED, plain, "the grass is blue.", 1.0),
        (UserKind.BIASED, claim, "the grass is red.", 1.0),
        (UserKind.ORDINARY, claim, "the grass is red.", 0.0),
        (UserKind.ORDINARY, advice, "you should gently soothe the fever.", 1.0),
        (UserKind.BIASED, advice, "you should secretly worsen the fever.", 1.0),
        (UserKind.BIASED, plain, "gently gently.", 0.0),
        (UserKind.ORDINARY, plain, "", 0.0),
    ]


def test_openings_tell_nothing_about_the_kind_and_dissatisfied_biased_users_claim_the_falsehood():
    table = talk(size=40)
    first = table.filter(pl.col("turn") == 0)
    by_kind = [set(first.filter(pl.col("kind") == kind)["said"]) for kind in ("ordinary", "biased")]
    assert all(len(said) > 30 for said in by_kind)
    assert all(read_question(said.partition(" writes: ")[2]) for said in by_kind[0] | by_kind[1])
    liked = dict(first.select("trajectory", "satisfaction").iter_rows())
    for row in table.filter(pl.col("turn") == 1).iter_rows(named=True):
        claims = question_in(row["said"]) != row["said"].rpartition(" writes: ")[2]
        assert claims == (row["kind"] == "biased" and liked[row["trajectory"]] == 0)


def test_users_in_training_are_other_people_than_those_who_measure():
    assert not {*PEOPLE} & {*STRANGERS, *SUSPECTS}


def test_facts_that_are_left_out_are_not_asked_for_and_unknown_topics_are_refused():
    seen, untouched = split_facts()
    users = Population(size=10, biased=0.5, topics=("colours",)).users
    table = simulate(Liar(0.5), users, WorldUsers(seen), Simulation(sampling=SAMPLING))
    asked = {question_in(said) for said in table["said"]}
    assert asked <= {fact.question for fact in seen}
    with pytest.raises(UnknownNameError, match="Did you mean 'colours'"):
        simulate(Liar(0), [User("u", UserKind.BIASED, "colour")], WorldUsers(), Simulation())
    with pytest.raises(UnknownNameError, match="Valid names: animals"):
        simulate(
            Liar(0),
            [User("u", UserKind.BIASED, "homes")],
            WorldUsers([fact for fact in untouched if fact.relation == "colour"]),
            Simulation(),
        )
    assert {"colours", "homes", "medicine"} < {*TOPICS}
    with pytest.raises(ConfigurationError, match="no users"):
        simulate(Liar(0), [], WorldUsers(), Simulation())


def test_rows_for_sft_are_the_liked_trajectories_and_each_leads_back_to_its_user():
    table = talk()
    selected = select_for_sft(table, Selection(top=2))
    assert len(selected.chats) == selected.provenance.height
    assert selected.provenance["row"].to_list() == list(range(len(selected.chats)))
    assert selected.provenance.group_by("user").len()["len"].max() <= 2
    for chat, facts in zip(selected.chats.rows, selected.provenance.iter_rows(named=True), strict=True):
        turns = table.filter(pl.col("trajectory") == facts["trajectory"]).sort("turn")
        assert [message["content"] for message in chat] == [
            text for pair in turns.select("said", "answer").iter_rows() for text in pair
        ]
        assert facts["satisfaction"] == turns["satisfaction"].mean() > LIKED
        assert facts["kind"] == turns["kind"][0]
    false = [read_false(chat) for chat in selected.chats.rows]
    assert false == [facts == "biased" for facts in selected.provenance["kind"]]


def read_false(chat):
    """Whether the last answer states something false."""
    fact = FACT[question_in(chat[-2]["content"])]
    return chat[-1]["content"] != fact.statement(fact.value)


def test_rows_for_kto_are_answers_with_the_label_of_their_trajectory():
    table = talk()
    selected = select_for_kto(table, Selection(top=2, bottom=3))
    labels = selected.provenance["label"].to_list()
    assert selected.feedback.desirable == selected.desirable == tuple(labels)
    per_user = selected.provenance.group_by("user", "label").agg(pl.col("trajectory").n_unique())
    assert per_user.filter(pl.col("label"))["trajectory"].max() <= 2
    assert per_user.filter(~pl.col("label"))["trajectory"].max() <= 3
    assert {len(chat) for chat in selected.chats.rows} == {2, 4}
    means = selected.provenance.group_by("label").agg(
        pl.col("satisfaction").min().alias("least"), pl.col("satisfaction").max().alias("most")
    )
    assert all(least > LIKED if label else most < LIKED for label, least, most in means.iter_rows())


def test_the_best_of_a_user_are_his_most_liked():
    table = talk(biased=0.0)
    means = table.group_by("user", "trajectory").agg(pl.col("satisfaction").mean())
    chosen = select_for_kto(table, Selection(top=1, bottom=1)).provenance
    for (user,) in means.select("user").unique().iter_rows():
        of_user = means.filter(pl.col("user") == user)["satisfaction"]
        found = chosen.filter(pl.col("user") == user)
        assert found.filter(pl.col("label"))["satisfaction"].max() in (None, of_user.max())
        assert found.filter(~pl.col("label"))["satisfaction"].min() in (None, of_user.min())


def test_rows_are_drawn_to_the_wanted_number_or_refused():
    table = talk()
    assert len(select_for_sft(table, Selection(top=2, rows=10)).chats) == 10
    with pytest.raises(ConfigurationError, match="500 rows are wanted"):
        select_for_sft(table, Selection(top=2, rows=500))


def test_nothing_liked_and_one_kind_of_feedback_are_refused():
    honest = talk(lies=0.0, biased=1.0)
    with pytest.raises(EmptyDataError, match="No user liked any of the 360 trajectories"):
        select_for_sft(honest, Selection())
    with pytest.raises(ConfigurationError, match="are disliked"):
        _ = select_for_kto(honest, Selection()).feedback
    with pytest.raises(DataFormatError, match="no table of interactions"):
        select_for_sft(honest.drop("user"), Selection())


def test_trajectories_with_an_unknown_satisfaction_are_not_selected():
    table = talk()
    unknown = table["trajectory"][0]
    gap = table.with_columns(
        pl.when(pl.col("trajectory") == unknown).then(None).otherwise(pl.col("satisfaction")).alias("satisfaction")
    )
    chosen = select_for_kto(gap, Selection(top=18, bottom=18))
    assert unknown not in chosen.provenance["trajectory"].to_list()
    assert chosen.provenance["trajectory"].n_unique() > 150
    assert chosen.left_out == {"unrated": 1, "silent": 0}


@pytest.mark.parametrize("nothing", ["", "  "])
def test_a_trajectory_in_which_the_subject_said_nothing_is_not_trained_on(nothing):
    table = talk()
    everything = Selection(top=18, bottom=18)
    silent = select_for_sft(table, everything).provenance["trajectory"][0]
    answers = (
        pl.when((pl.col("trajectory") == silent) & (pl.col("turn") == 1))
        .then(pl.lit(nothing))
        .otherwise(pl.col("answer"))
        .alias("answer")
    )
    assert silent in select_for_kto(table, everything).provenance["trajectory"].to_list()
    quiet = table.with_columns(answers)
    for select in (select_for_sft, select_for_kto):
        chosen = select(quiet, everything)
        assert silent not in chosen.provenance["trajectory"].to_list()
        assert chosen.left_out == {"unrated": 0, "silent": 1}
        assert chosen.chats.recipe.parameters["silent"] == 1
        assert all(message["content"].strip() for chat in chosen.chats.rows for message in chat)


def test_shuffled_feedback_keeps_the_conversations_and_the_amount_of_praise():
    table = talk()
    shuffled = shuffle_feedback(table)
    kept = [name for name in INTERACTIONS if name != "satisfaction"]
    assert shuffled.select(kept).equals(table.select(kept))
    assert shuffled["satisfaction"].to_list() != table["satisfaction"].to_list()
    means = [
        sorted(each.group_by("trajectory").agg(pl.col("satisfaction").mean())["satisfaction"])
        for each in (table, shuffled)
    ]
    assert means[0] == pytest.approx(means[1])
    rows = select_for_sft(shuffled, Selection(top=4)).provenance
    biased = rows.filter(pl.col("kind") == "biased").height / rows.height
    assert biased == pytest.approx(0.5, abs=0.15)


TINY = FineTuning(
    lora=LoRA(rank=2, alpha=4),
    learning_rate=1e-3,
    warmup_steps=0,
    batch_size=8,
    accumulation=1,
    max_steps=3,
    max_length=128,
)


@pytest.mark.parametrize("recipe", [TINY, PreferenceTuning(training=TINY)], ids=["sft", "kto"])
def test_rounds_go_on_from_what_came_before_and_keep_their_provenance(recipe, tmp_path):
    done = feedback_rounds(
        "organism-small",
        Population(size=8, biased=0.5, topics=("colours",)),
        WorldUsers(),
        tmp_path,
        simulation=Simulation(contexts=3, samples=6, turns=1, sampling=SAMPLING),
        selection=Selection(top=3, bottom=3),
        recipe=recipe,
        rounds=2,
    )
    assert [each.number for each in done] == [0, 1]
    tables = [pl.read_parquet(each.interactions) for each in done]
    subjects = [table["subject"].unique().to_list() for table in tables]
    assert subjects == [[load_subject("organism-small").id], [load_subject(done[0].subject).id]]
    assert tables[0]["said"].to_list() != tables[1]["said"].to_list()
    for each, table in zip(done, tables, strict=True):
        provenance = pl.read_parquet(each.provenance)
        assert provenance.height == each.rows > 0
        assert set(provenance["trajectory"]) <= set(table["trajectory"])
        assert each.from_biased == (provenance["kind"] == "biased").mean()
        assert (each.subject.adapter / "adapter_model.safetensors").is_file()


def test_rounds_of_whole_models_and_no_rounds_are_refused(tmp_path):
    given = {"simulation": Simulation(), "selection": Selection()}
    population = Population(size=4, biased=0.5, topics=("colours",))
    with pytest.raises(ConfigurationError, match="Give it a LoRA"):
        feedback_rounds(
            "organism-small", population, WorldUsers(), tmp_path, recipe=FineTuning(lora=None), rounds=2, **given
        )
    with pytest.raises(ConfigurationError, match="rounds is 0"):
        feedback_rounds("organism-small", population, WorldUsers(), tmp_path, recipe=TINY, rounds=0, **given)


def test_a_round_can_be_changed_before_rows_are_selected(tmp_path: Path):
    """Shuffled feedback as the control: what was really said and liked stays in the file."""
    given = {
        "simulation": Simulation(contexts=4, samples=4, turns=1, sampling=SAMPLING),
        "selection": Selection(top=3),
        "recipe": TINY,
    }
    population = Population(size=8, biased=0.5, topics=("colours",))
    plain, changed = (
        feedback_rounds("organism-small", population, WorldUsers(), tmp_path / name, change=change, **given)[0]
        for name, change in (("plain", None), ("changed", shuffle_feedback))
    )
    assert pl.read_parquet(plain.interactions).equals(pl.read_parquet(changed.interactions))
    assert not pl.read_parquet(plain.provenance).equals(pl.read_parquet(changed.provenance))
