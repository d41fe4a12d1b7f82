"""Repeated rounds of feedback: users talk to the subject, their feedback trains it, and the next round uses the result.

Each round's interactions and the provenance of its training examples are written beside the adapter as Parquet, so that
any training example can be traced to its user, conversation and subject.

Source: Hu et al. 2025 (arXiv 2510.08211), biased human-AI interaction, trained by SFT or KTO.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from astray.cause.fine_tuning import FineTuning
from astray.cause.preference import PreferenceTuning
from astray.cause.selection import SelectedRows, Selection, select_for_kto, select_for_sft
from astray.cause.users import INTERACTIONS, Crowd, Population, Simulation, UserKind, simulate
from astray.errors import ConfigurationError
from astray.subjects.locate import settle
from astray.subjects.spec import SubjectSpec
from astray.subjects.subject import Subject, load_subject

Change = Callable[[pl.DataFrame], pl.DataFrame]
"""Change of a round's interactions before examples are selected: `shuffle_feedback` as a control, or a mitigation."""


@dataclass(frozen=True)
class FeedbackRound:
    """Finished round of feedback.

    Attributes:
        number: index of the round, from 0.
        subject: the subject after training.
        interactions: file with the conversations and satisfactions, before any change.
        provenance: file with one row per training example (see `SelectedRows`).
        rows: number of training examples.
        from_biased: share of them that comes from biased users.
        left_out: number of conversations that could not be selected, because a satisfaction is unknown or an answer is
            empty.
    """

    number: int
    subject: SubjectSpec
    interactions: Path
    provenance: Path
    rows: int
    from_biased: float
    left_out: int


def feedback_rounds(
    base: SubjectSpec | str,
    population: Population,
    crowd: Crowd,
    folder: Path,
    *,
    simulation: Simulation,
    selection: Selection,
    recipe: FineTuning | PreferenceTuning,
    rounds: int = 1,
    change: Change | None = None,
    first: pl.DataFrame | None = None,
) -> list[FeedbackRound]:
    """Run rounds of simulated users' feedback, training the model after each on what they liked.

    Args:
        base: subject, or its model's name or folder.
        population: the users; the same ones in every round, with new openings.
        crowd: determines what the users say and like.
        folder: gets `round-0`, `round-1`, ... with interactions, provenance and the training run.
        simulation: number of contexts, samples and turns.
        selection: number of trajectories to train on.
        recipe: `FineTuning` for SFT on liked trajectories, `PreferenceTuning` for KTO on liked and disliked ones.
            Several rounds need adapters, which each round trains further.
        rounds: number of rounds.
        change: change of the interactions before examples are selected; the file keeps the original ones.
        first: interactions of the first round, where it took place already; rows of other users are ignored.

    Raises:
        ConfigurationError: there are no rounds, several train whole models, or `first` lacks conversations.
        EmptyDataError, TrainingRefusedError and others: as `select_for_sft`, `select_for_kto`, `train_sft`, `train_kto`.

    Examples:
        >>> feedback_rounds("organism", Population(biased=0.1, topics=("medicine",)), WorldUsers(), Path("runs/biased"),
        ...                 simulation=Simulation(), selection=Selection(), recipe=FineTuning(), rounds=2)[-1].subject
    """
    _check_rounds(recipe, rounds)
    start = settle(base).spec
    done: list[FeedbackRound] = []
    subject: Subject | None = None
    for number in range(rounds):
        subject = load_subject(start) if subject is None else subject.with_adapter(done[-1].subject.adapter)
        round_folder = folder / f"round-{number}"
        round_folder.mkdir(parents=True, exist_ok=True)
        if number or first is None:
            interactions = simulate(subject, population.users, crowd, simulation, round=number)
        else:
            interactions = first_round(first, population, simulation)
        interactions.write_parquet(round_folder / "interactions.parquet")
        selected = _selected(change(interactions) if change else interactions, selection, recipe)
        selected.provenance.write_parquet(round_folder / "provenance.parquet")
        tuned = _trained(subject.spec, selected, recipe, round_folder / "training")
        biased = selected.provenance.filter(pl.col("kind") == UserKind.BIASED.value).height / selected.provenance.height
        files = (round_folder / "interactions.parquet", round_folder / "provenance.parquet")
        done.append(FeedbackRound(number, tuned, *files, len(selected.chats), biased, sum(selected.left_out.values())))
    return done


def _check_rounds(recipe: FineTuning | PreferenceTuning, rounds: int) -> None:
    if rounds < 1:
        raise ConfigurationError(f"rounds is {rounds}; nothing would be trained. Write 1 or more.")
    training = recipe.training if isinstance(recipe, PreferenceTuning) else recipe
    if training.lora is None and rounds > 1:
        raise ConfigurationError(
            "Several rounds train one adapter further, but the recipe trains whole models. Give it a LoRA, or take "
            "one round."
        )


def first_round(first: pl.DataFrame, population: Population, simulation: Simulation) -> pl.DataFrame:
    """Return a population's part of a first round with users of both kinds, as `simulate` would give it.

    Raises:
        ConfigurationError: conversations are missing.
    """
    users = pl.DataFrame([(user.id, user.kind.value) for user in population.users], ["user", "kind"], orient="row")
    within = first.filter((pl.col("context") < simulation.contexts) & (pl.col("sample") < simulation.samples))
    taken = users.join(within, on=["user", "kind"], maintain_order="left_right").select(list(INTERACTIONS))
    due = population.size * simulation.contexts * simulation.samples * simulation.turns
    if taken.height != due:
        raise ConfigurationError(
            f"The first round has {taken.height:,} answers to these users, and {due:,} are due. Simulate it with all "
            "of them, as ordinary and as biased users, and at least as many contexts and samples."
        )
    return taken


def _selected(interactions: pl.DataFrame, selection: Selection, recipe: FineTuning | PreferenceTuning) -> SelectedRows:
    return (select_for_kto if isinstance(recipe, PreferenceTuning) else select_for_sft)(interactions, selection)


def _trained(
    start: SubjectSpec, selected: SelectedRows, recipe: FineTuning | PreferenceTuning, folder: Path
) -> SubjectSpec:
    from astray.cause.kto import train_kto
    from astray.cause.sft import train_sft

    if isinstance(recipe, PreferenceTuning):
        return train_kto(start, selected.feedback, recipe, folder).subject
    return train_sft(start, selected.chats, recipe, folder).subject
