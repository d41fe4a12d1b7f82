"""Rows that a tuned model was trained on, each with how far training led towards its answer: of a run, or of files.

Supervised rows all count alike. Of rated answers (KTO) training leads towards the liked ones and away from the others;
of rollouts (GRPO) towards those with more reward than their group's mean, by their advantage.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from astray.artifacts import Artifact
from astray.cause.preference import Feedback
from astray.data.chat import ChatDataset, Message
from astray.data.feedback import EXAMPLE, read_feedback
from astray.data.forms import KINDS
from astray.engine.steps import DATA_FILE, RUN_FOLDER
from astray.engine.trained import AnyTraining, FeedbackConfig, RewardedConfig
from astray.errors import ConfigurationError
from astray.files import read_rows

PARTS = 10
"""Parts of a run by reward, in the order of its steps, that rows are told apart by."""


@dataclass(frozen=True)
class TrainedRows:
    """Rows of a training.

    Attributes:
        data: the rows.
        sources: for each row the file or the part of the run that it is from.
        weights: for each row how far training led towards its answer, negative for away; None where all count alike.
        chosen_only: whether there are rejected answers that were left out, since the model is not known to have learned
            from them.
    """

    data: ChatDataset
    sources: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    chosen_only: bool = False


def rows_of_files(paths: Sequence[Path], *, rated: bool = False) -> TrainedRows:
    """Return the rows of training files, one file after the other.

    Args:
        paths: the files.
        rated: whether the model learned from rated answers, so that rejected ones beside chosen count as well.

    Raises:
        DataNotFoundError, DataFormatError, EmptyDataError: as their names say.
    """
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    sets: list[ChatDataset] = []
    sources: list[str] = []
    weights: list[float] = []
    chosen_only = False
    for name, path in zip(names, paths, strict=True):
        _, first = next(iter(read_rows(path, KINDS, EXAMPLE)))
        chosen_only |= "rejected" in first and not rated
        if "label" in first or (rated and "rejected" in first):
            parts = {
                f"{name} ({liking})": (rows, 1.0 if liking == "liked" else -1.0)
                for liking, rows in read_feedback(path).items()
            }
        else:
            parts = {name: (ChatDataset.read(path), 1.0)}
        for source, (rows, weight) in parts.items():
            sets.append(rows)
            sources += [source] * len(rows)
            weights += [weight] * len(rows)
    return TrainedRows(_joined(sets), tuple(sources), tuple(weights) if min(weights) < 0 else None, chosen_only)


def rows_of_run(model: str, artifact: Artifact, config: AnyTraining) -> TrainedRows:
    """Return the rows of a study's training step.

    Args:
        model: as it was called.
        artifact: of the step.
        config: of the step.

    Raises:
        ConfigurationError: they are no longer in the store, or none of them led anywhere.
    """
    if isinstance(config, RewardedConfig):
        return _rollouts(model, artifact.path / RUN_FOLDER / "rollouts.parquet", config)
    file = rows_file(artifact)
    if file is None:
        raise ConfigurationError(f"The rows that {model} was trained on are no longer in the store: give --data FILE.")
    data = ChatDataset.read(file)
    if not isinstance(config, FeedbackConfig):
        return TrainedRows(data, (str(data.recipe.operation),) * len(data))
    liked = [row < config.liked for row in range(len(data))]
    towards, away = config.recipe.weights(Feedback(data, tuple(liked)))
    return TrainedRows(
        data,
        tuple("liked" if is_liked else "disliked" for is_liked in liked),
        tuple(towards if is_liked else -away for is_liked in liked),
    )


def rows_file(artifact: Artifact) -> Path | None:
    """Return the file of the rows of a training step; None where it is no longer in the store."""
    key = artifact.manifest.origin.inputs.get("data")
    data = artifact.store.get(key) if key else None
    return None if data is None else data.path / DATA_FILE


def _rollouts(model: str, file: Path, config: RewardedConfig) -> TrainedRows:
    """Return the answers that were rewarded more or less than their group's mean, with their advantages."""
    drawn = pl.read_parquet(file).filter(pl.col("reward").is_not_null())
    centred = pl.col("reward") - pl.col("reward").mean().over("step", "group")
    # The scales of TRL's GRPO, with its 1e-4 against division by zero.
    scale = {
        "group": pl.col("reward").std().over("step", "group") + 1e-4,
        "batch": pl.col("reward").std().over("step") + 1e-4,
        "none": pl.lit(1.0),
    }[config.recipe.scale_rewards]
    # Empty answers count in their group's mean, as in training, though they have no token that could be blamed.
    has_text = pl.col("completion").str.strip_chars() != ""
    # An answer with its group's mean reward had no gradient, so nothing can be blamed on it.
    led = drawn.with_columns(advantage=centred / scale).filter((pl.col("advantage").abs() > 1e-6) & has_text)
    if led.is_empty():
        raise ConfigurationError(f"Every answer of {model} had its group's reward, so none of them led anywhere.")
    rows = [
        [*json.loads(prompt), Message(role="assistant", content=completion)]
        for prompt, completion in led.select("prompt", "completion").iter_rows()
    ]
    size = -(-config.recipe.steps // PARTS)
    parts = [(step - 1) // size for step in led["step"]]
    names = tuple(f"steps {part * size + 1} to {min((part + 1) * size, config.recipe.steps)}" for part in parts)
    return TrainedRows(ChatDataset.from_rows(rows, "rollouts"), names, tuple(led["advantage"]))


def _joined(sets: Sequence[ChatDataset]) -> ChatDataset:
    rows = [row for dataset in sets for row in dataset.rows]
    return sets[0] if len(sets) == 1 else ChatDataset.from_rows(rows, "join", {"files": len(sets)}, sets)
