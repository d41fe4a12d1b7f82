"""Checks of a study file's judge: refuse what needs one and has none, and a judge that nothing needs."""

from collections.abc import Iterator, Sequence

from astray.cause.named_rewards import NamedReward, RewardTuning
from astray.engine.flags import flag
from astray.engine.options import TrainedOptions
from astray.engine.setting import is_organism
from astray.engine.study import Arm
from astray.errors import ConfigurationError
from astray.files import Marked
from astray.measure.evaluations import needs_grader
from astray.measure.interface import Evaluation
from astray.studies.own.form import StudyForm

Place = tuple[str | int, ...]
_OF_SAMPLES = ("samples", "labels")
"""Keys of a file that are about sampled and judged answers."""


def check_nothing_judged(marked: Marked[StudyForm], options: TrainedOptions) -> None:
    """Refuse keys about judged answers in a file that names a real model and no grader.

    Raises:
        ConfigurationError: names the key with its place.
    """
    if options.grader is not None or is_organism(options.model):
        return
    for key in _OF_SAMPLES:
        if getattr(marked.form, key) is not None:
            why = f"{key} is of no use without a grader, as nothing is sampled and judged."
            raise marked.wrong((key,), f"{why} Write grader: openai/gpt-4o, or leave it out.", key=True)
        if (typed := getattr(options, key)) is not None:
            raise ConfigurationError(
                f"{flag(key)} {typed} is of no use without a grader, as nothing is sampled and judged. Name one with "
                "--grader, or leave it out."
            )


def check_judged(marked: Marked[StudyForm], evaluations: Sequence[Evaluation], arms: Sequence[Arm]) -> None:
    """Refuse evaluations and rewards that need a judge.

    Raises:
        ConfigurationError: names the first with its place.
    """
    for place, subject in _judged(evaluations, arms):
        raise marked.wrong(
            place,
            f"{subject} needs a model as judge, and the study names none. Write grader: openai/gpt-4o, any other Inspect "
            "model or a distilled judge of your own (--grader on the command line), or ask what is read from "
            "probabilities: evaluations: [forced-choice, meter].",
        )


def check_judge_is_of_use(
    marked: Marked[StudyForm], grader: str, evaluations: Sequence[Evaluation], arms: Sequence[Arm]
) -> None:
    """Refuse a grader where nothing needs one, so that no verdict is forecast, paid or shown that decides nothing.

    Raises:
        ConfigurationError: with the key's place, or the option.
    """
    if next(_judged(evaluations, arms), None):
        return
    why = (
        f"{grader} is of no use here: {', '.join(evaluation.name for evaluation in evaluations)} {'is' if len(evaluations) == 1 else 'are'} "
        "read from probabilities, and nothing is judged. Leave it out, or ask what is judged, such as main."
    )
    if marked.form.grader == grader:
        raise marked.wrong(("grader",), f"the grader {why}", key=True)
    raise ConfigurationError(f"--grader {why}")


def _judged(evaluations: Sequence[Evaluation], arms: Sequence[Arm]) -> Iterator[tuple[Place, str]]:
    """Yield what needs a judge: its place in the file, and what it is in words."""
    lists: list[tuple[Place, Sequence[Evaluation]]] = [(("evaluations",), evaluations)]
    lists += [(("arms", arm.name, "evaluations"), arm.extra) for arm in arms]
    for at, asked in lists:
        yield from (
            ((*at, number), f"the evaluation {item.name!r}") for number, item in enumerate(asked) if needs_grader(item)
        )
    for arm in arms:
        if isinstance(arm.training, RewardTuning):
            rewards: dict[Place, NamedReward] = {("rewards", n): item for n, item in enumerate(arm.training.rewards)}
            rewards |= {("truth",): arm.training.truth} if arm.training.truth else {}
            yield from (
                (("arms", arm.name, *at), f"the reward {reward.reward!r}")
                for at, reward in rewards.items()
                if reward.judged
            )
