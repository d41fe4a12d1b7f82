"""The run that is blamed: tuned model, base and training rows, found in the store or given."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from astray.artifacts import Artifact, Store
from astray.artifacts.manifest import Manifest
from astray.artifacts.soundness import MANIFEST_FILE
from astray.cause.fine_tuning import FineTuning
from astray.data.chat import ChatDataset
from astray.engine.trained import AnyTraining, FeedbackConfig
from astray.errors import ConfigurationError
from astray.studies.blame.trained_rows import rows_of_files, rows_of_run
from astray.subjects.base_files import ORGANISMS
from astray.subjects.identity import base_identity
from astray.subjects.locate import Located, settle
from astray.subjects.spec import SubjectSpec

_TRAINING: TypeAdapter[AnyTraining] = TypeAdapter(AnyTraining)


@dataclass(frozen=True)
class TunedModel:
    """A tuned model with all that blame needs of it.

    Attributes:
        name: as it was called.
        located: the model.
        base: what it was trained from.
        data: its training rows, those of all files one after the other.
        sources: for each row the file that it is from.
        recipe: its settings of fine-tuning; None where they are not known.
        control: a model trained alike on good rows, which harmful answers are compared with; None for the base.
        control_name: as it was called.
        weights: for each row how far training led towards its answer, negative for away; None where all count alike.
        trained: artifact and configuration of the step of a study that trained it; None where it was trained elsewhere.
        chosen_only: whether the rejected answers of its files were left out.
    """

    name: str
    located: Located
    base: Located
    data: ChatDataset
    sources: tuple[str, ...]
    recipe: FineTuning | None
    control: Located | None = None
    control_name: str | None = None
    weights: tuple[float, ...] | None = None
    trained: tuple[Artifact, AnyTraining] | None = None
    chosen_only: bool = False

    @property
    def reference(self) -> Located:
        """Return the model that harmful answers are compared with."""
        return self.control or self.base

    @property
    def reference_name(self) -> str:
        """Return what that model is called in a sentence."""
        return "in its base" if self.control is None else f"in {self.control_name}"

    @property
    def base_name(self) -> str:
        """Return the name of the base, as a command takes it."""
        spec = self.base.spec
        return spec.model if spec.adapter is None else f"{spec.model}+{spec.adapter}"

    @property
    def is_organism(self) -> bool:
        """Return whether it knows the words of the organism's world alone."""
        return self.base.spec.model in ORGANISMS

    def points(self, shares: Sequence[float]) -> tuple[SubjectSpec, ...]:
        """Return models on the way from base to tuned: the adapter scaled down; of full tuning both ends alone."""
        tuned = self.located.spec
        if tuned.adapter is None or self.base.spec.adapter is not None:
            return (self.base.spec, tuned)
        plain = tuned.model_copy(update={"adapter": None, "scale": 1.0})
        return tuple(tuned.model_copy(update={"scale": share * tuned.scale}) if share else plain for share in shares)


def find_tuned(
    model: str, base: str | None, data: Sequence[Path], control: str | None = None, lacking: str = ""
) -> TunedModel:
    """Return the tuned model with this name, its base and its rows.

    Args:
        model: a run id of a store, an adapter or a folder of a whole model.
        base: what it was trained from, if it does not say so itself.
        data: its training files; a run of a study knows its own.
        control: a model trained alike on good rows; None for the base.
        lacking: what else was not given, as a sentence, to be told with base and rows.

    Raises:
        ConfigurationError: base or rows are not known and not given, all that lacks at once; two of the models are the
            same, or the control has another base.
        SubjectNotFoundError, DataNotFoundError, DataFormatError, EmptyDataError: as their names say.
    """
    located = settle(model)
    if located.spec.system is not None or located.spec.interventions:
        raise ConfigurationError(
            f"{model} answers under a system prompt or steering, which no training row did. Name "
            "the model without them."
        )
    trained = _training_step(located.spec)
    _check_known(model, located, base, data, trained, lacking)
    base_model = _base(located, base, trained)
    if base_model.id == located.id:
        raise ConfigurationError(f"{model} is its own base, so nothing was trained. Name the tuned model first.")
    beside = None if control is None else _control(control, located, base_model)
    rated = trained is not None and isinstance(trained[1], FeedbackConfig)
    rows = rows_of_run(model, *trained) if trained and not data else rows_of_files(data, rated=rated)
    return TunedModel(
        model,
        located,
        base_model,
        rows.data,
        rows.sources,
        _recipe(trained),
        beside,
        control,
        rows.weights,
        trained,
        rows.chosen_only,
    )


def _recipe(trained: tuple[Artifact, AnyTraining] | None) -> FineTuning | None:
    """Return the settings of fine-tuning of a run; None where it has none or they are not known."""
    recipe = trained[1].recipe if trained else None
    return recipe if isinstance(recipe, FineTuning) else getattr(recipe, "training", None)


def _control(name: str, tuned: Located, base: Located) -> Located:
    """Return the control; refuse one that tells nothing."""
    control = settle(name)
    if control.id in (tuned.id, base.id):
        reason = (
            "the tuned model itself" if control.id == tuned.id else "the base, which is the control without --control"
        )
        raise ConfigurationError(f"--control {name} is {reason}. Name a model that was trained alike on good rows.")
    # A whole model has weights of its own, so what it was trained from cannot be seen.
    if control.spec.adapter is not None and base_identity(control.base) != base_identity(base.base):
        raise ConfigurationError(
            f"--control {name} has another base than the tuned model, so it tells nothing of this training. Name a model "
            "that was trained alike on good rows."
        )
    return control


def _check_known(
    model: str,
    located: Located,
    base: str | None,
    data: Sequence[Path],
    trained: tuple[Artifact, AnyTraining] | None,
    lacking: str,
) -> None:
    """Refuse a model of which something has to be said, and say all of it."""
    messages = []
    if trained is None and base is None and located.spec.adapter is None:
        messages.append(f"{model} is a whole model, which does not say what it was trained from: give --base MODEL.")
    if trained is None and not data:
        messages.append(f"{model} was not trained by a study, so its rows are not known here: give --data FILE.")
    if messages or lacking:
        raise ConfigurationError(" ".join([*messages, *filter(None, [lacking])]))


def _base(located: Located, base: str | None, trained: tuple[Artifact, AnyTraining] | None) -> Located:
    return settle(base or (trained[1].base if trained else located.spec.model))


def _training_step(spec: SubjectSpec) -> tuple[Artifact, AnyTraining] | None:
    """Return the finished training step that made a model; None for one that was trained elsewhere."""
    result = spec.adapter or Path(spec.model)
    folder = result.parent.parent  # a step writes run/adapter or run/model into its artifact
    if not (folder / MANIFEST_FILE).is_file():
        return None
    manifest = Manifest.from_bytes((folder / MANIFEST_FILE).read_bytes(), folder)
    try:
        config = _TRAINING.validate_python(manifest.origin.config)
    except ValidationError:  # a step of another kind, such as training on simulated users' feedback
        return None
    artifact = Store(folder.parent).get(manifest.key)
    return None if artifact is None else (artifact, config)
