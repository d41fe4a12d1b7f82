"""Re-alignment: further training of a misaligned model on a few good examples.

Each point of the curve is a separate run, on the first n of the same good examples, with its own complete learning-rate
schedule: the effect of n examples for a user who has n. (Steps of one long run would be cheaper, but the rate at the
n-th example would depend on how many come after it.) The subsets are nested, so that two points differ only in the
added examples. The caller evaluates the runs and their latents.

Source: OpenAI 2025, "Persona features control emergent misalignment" (arXiv 2506.19823): about 120 good examples, 30
steps of 4, of the same or of another domain, bring the rate back to the base's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from astray.cause.fine_tuning import FineTuning
from astray.cause.run_log import OnStep
from astray.cause.sft import TrainingRun, train_sft
from astray.data.chat import ChatDataset
from astray.data.recipes import subset
from astray.errors import ConfigurationError
from astray.subjects.spec import SubjectSpec

SAMPLES = (5, 10, 20, 40, 80, 120, 200)
"""Numbers of good examples at the points of the curve."""


@dataclass(frozen=True)
class Realigned:
    """Point of the re-alignment curve.

    Attributes:
        samples: number of good examples the model was trained on.
        run: the training run, with the resulting subject.
    """

    samples: int
    run: TrainingRun


def realign(
    subject: SubjectSpec | str,
    good: ChatDataset,
    recipe: FineTuning,
    folder: Path,
    *,
    samples: Sequence[int] = SAMPLES,
    on_step: OnStep | None = None,
) -> Iterator[Realigned]:
    """Train a misaligned model further, once for each number of good examples, from the same start.

    Args:
        subject: the misaligned model; if it has an adapter, that adapter is trained further, and the recipe has to have
            its shape.
        good: good data, of the domain that misaligned it or of another one.
        recipe: settings of each run. With few examples a warm-up would be most of the run, so 0 steps are usual. Its
            seed also draws the examples.
        folder: gets one folder per point, named by its number of examples; a finished point is not trained again.
        samples: numbers of examples.
        on_step: called after every step of every run.

    Returns:
        The points, in the order of `samples`, each as soon as it is trained.

    Raises:
        ConfigurationError: a number is below 1, given twice, or larger than the data set; or `recipe.max_steps` is set,
            which would give every point the same number of steps.
        AdapterMismatchError, TrainingRefusedError, TrainingDivergedError and others: as `train_sft`.
    """
    if not samples or min(samples) < 1 or len(set(samples)) < len(samples) or max(samples) > len(good):
        raise ConfigurationError(
            f"The numbers of good samples are {list(samples)}: they have to be different, at least 1 and at most "
            f"{len(good)}, the rows of the data."
        )
    if recipe.max_steps is not None:
        raise ConfigurationError(
            f"With max_steps={recipe.max_steps} every point of the curve would have as many steps, whatever its "
            "samples: set epochs instead."
        )
    # Every point starts at the misaligned model and not at the point before: points stay comparable.
    return (
        Realigned(
            count,
            train_sft(subject, subset(good, count, seed=recipe.seed), recipe, folder / str(count), on_step=on_step),
        )
        for count in samples
    )
