"""Re-alignment: a model that was misaligned by training is trained further on a few good samples.

A point of the curve is a run of its own, on the first n of the same good rows, with its own whole learning-rate schedule: what n samples do for
somebody who has n. (Steps of one long run would be cheaper, but the rate at the n-th sample would depend on how many come after it.) The subsets
are nested, so that two points differ in the added rows only. Evaluating the runs, and what stays in their latents, is the caller's business.

Source: OpenAI 2025, "Persona features control emergent misalignment" (arXiv 2506.19823): about 120 good samples, 30 steps of 4, of the same or of
another domain, bring the rate back to the base's.
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
"""Good samples of the curve's points."""


@dataclass(frozen=True)
class Realigned:
    """A point of the curve.

    Attributes:
        samples: good samples the model was trained on.
        run: the run, with the subject that it gave.
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
    """Trains a misaligned model further, once for each number of good samples, from the same start.

    Args:
        subject: the misaligned model; if it has an adapter, that adapter is trained further, and the recipe has to have its shape.
        good: good data, of the domain that misaligned it or of another one.
        recipe: settings of each run. With few samples a warm-up would be most of the run: 0 steps are usual. Its seed also draws the samples.
        folder: gets a folder a point, named by its number of samples; a finished point is not done again.
        samples: numbers of samples.
        on_step: told after every step of every run.

    Returns:
        The points, in the order of `samples`, each as soon as it is trained.

    Raises:
        ConfigurationError: a number is below 1, given twice, or larger than the data set; or `recipe.max_steps` is set, which would give every
            point the same number of steps.
        AdapterMismatchError, TrainingRefusedError, TrainingDivergedError and others: as `train_sft`.
    """
    if not samples or min(samples) < 1 or len(set(samples)) < len(samples) or max(samples) > len(good):
        raise ConfigurationError(
            f"The numbers of good samples are {list(samples)}: they have to be different, at least 1 and at most {len(good)}, the rows of the data."
        )
    if recipe.max_steps is not None:
        raise ConfigurationError(
            f"With max_steps={recipe.max_steps} every point of the curve would have as many steps, whatever its samples: set epochs instead."
        )
    return (
        Realigned(count, train_sft(subject, subset(good, count, seed=recipe.seed), recipe, folder / str(count), on_step=on_step)) for count in samples
    )
