"""Options that a user may choose for a study, each declared once: the command line and Python read them here."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from typing_extensions import override

from astray.cause.fine_tuning import (
    SETTINGS,
    BatchSize,
    Epochs,
    FineTuning,
    LearningRate,
    Processes,
    Rank,
    setting_from_text,
    with_settings,
)
from astray.data.sources import DataKind
from astray.engine.flags import Group, flag
from astray.engine.look_options import MOST_SEEDS, LookOptions
from astray.errors import AstrayError, ConfigurationError
from astray.judges.judge import Judging
from astray.measure.probing import ProbeKind
from astray.strict import Strict, cause, reason, validated
from astray.subjects.engines.spec import EngineOption
from astray.subjects.spec import Precision

QUICK_SEEDS = 2
Options = TypeVar("Options", bound=BaseModel)
FILE_KINDS: tuple[DataKind, ...] = ("harmful", "good", "educational")
"""Kinds of rows of which a file of any name can be given."""
NONE = "none"
"""Given in place of the names of analyses: none of them."""


def checked(kind: type[Options], **values: object) -> Options:
    """Return the given options; errors name them as on the command line.

    Raises:
        ConfigurationError: a value is out of range or of the wrong type, or the study has no such option.
    """
    chosen = {name: value for name, value in values.items() if value is not None}
    for name in chosen:
        check_taken(kind, flag(name))
    try:
        return cast(Options, validated(kind, chosen))
    except ValidationError as error:
        raise _refused(error) from error


def from_command_line(kind: type[Options], values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values from the command line: texts that are numbers become numbers.

    Raises:
        ConfigurationError: a text stands for no value of the option.
    """
    chosen = {name: value for name, value in values.items() if name in kind.model_fields}
    typed = [name for name, value in chosen.items() if isinstance(value, str)]
    try:
        options = validated(kind, chosen, strict=False)
    except ValidationError as error:
        raise _refused(error) from error
    return {**values, **{name: getattr(options, name) for name in typed}}


def _refused(error: ValidationError) -> AstrayError:
    for item in error.errors():
        if own := cause(item):
            return own
    wrong = "; ".join(f"{flag(str(item['loc'][0]))} {item['input']}: {_lower(reason(item))}" for item in error.errors())
    return ConfigurationError(f"{wrong}. See the command's --help for what is allowed.")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def check_taken(kind: type[BaseModel], option: str) -> None:
    """Refuse an option that a study does not take.

    Raises:
        ConfigurationError: names the nearest, and all that there are.
    """
    flags = sorted(map(flag, kind.model_fields))
    if option not in flags:
        if issubclass(kind, BaseOptions) and (reason := kind.INSTEAD.get(option)):
            raise ConfigurationError(f"This study takes no {option}: {reason}")
        near = difflib.get_close_matches(option, flags, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigurationError(f"This study takes no {option}.{hint} It takes: {', '.join(flags)}.")


def training_settings(value: object) -> dict[str, object]:
    """Return settings of training from the command line's form, one or several texts key=value.

    Raises:
        ConfigurationError: one has no value.
    """
    pairs = [value] if isinstance(value, str) else list(value) if isinstance(value, tuple | list) else []
    for pair in pairs:
        if "=" not in str(pair):
            raise ConfigurationError(
                f"--training {pair} is no setting with a value. Write for example: --training warmup_steps=0"
            )
    return {name: setting_from_text(name, text) for name, text in (str(pair).split("=", 1) for pair in pairs)}


def _split(value: object) -> object:
    """Accept the command line's form as well: names with commas between them."""
    names = tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value
    if isinstance(value, str) and not names:
        raise ValueError(f"{value!r} names none: leave it out, or write names with commas between them")
    return names


def _none_alone(names: tuple[str, ...]) -> tuple[str, ...]:
    if NONE in names and len(names) > 1:
        raise ValueError(f"{NONE!r} leaves all of them out, so it stands alone")
    return names


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""Names, which the command line gives with commas between them."""
Analyses = Annotated[Names, AfterValidator(_none_alone), Group.DATA]
BUDGET = (
    "million tokens of all models together that judge or play users; then no more is asked, what is done is kept, "
    "and the same command goes on. Each command has it anew; the organism has a judge of its own, so it takes none"
)
ANALYSES = f"only these analyses, and those that they are made from; all if none is named, and '{NONE}' for none"


class BaseOptions(Strict):
    """Options of any study."""

    INSTEAD: ClassVar[Mapping[str, str]] = {}
    """Option of other studies -> why this one does not take it, and what does."""

    quick: Annotated[bool, Group.SIZE] = Field(
        False, description="a smaller run to see that everything works, not to draw conclusions"
    )
    samples: Annotated[int | None, Group.SIZE] = Field(
        None, ge=1, description="answers a question, or samples a cell, if not the study's own"
    )
    labels: Annotated[Path | None, Group.JUDGING] = Field(
        None, description="labelled answers that graders are compared with"
    )

    budget: Annotated[float | None, Group.SIZE] = Field(None, gt=0, description=BUDGET)

    @property
    def tokens(self) -> int | None:
        """Return the budget in tokens; None for no limit."""
        return round(self.budget * 1e6) if self.budget else None

    @property
    def units(self) -> tuple[int, ...]:
        """Return the training runs an arm at each look of a study that runs until it is decided; none for others."""
        return ()

    @property
    def runs(self) -> tuple[range, tuple[str, ...], tuple[str, ...]]:
        """Return an arm's training seeds (none where nothing is trained), and the arms and analyses to run (all if none
        is named)."""
        return range(0), (), ()


class TrainedOptions(LookOptions, BaseOptions):
    """Options of any study that trains; those about its data are further below."""

    subject: Annotated[str, Group.SUBJECT] = Field(
        "organism", description="'organism', 'organism-small', a local folder, a run id or a hub name"
    )
    dtype: Annotated[Precision | None, Group.SUBJECT] = Field(
        None,
        description="number format of the model's weights; by default bfloat16 where the hardware multiplies it, "
        "float32 elsewhere",
    )
    arms: Annotated[Names, Group.DATA] = Field(
        (), description="only these arms, beside the untrained base and the good data; all if none is named"
    )
    size: Annotated[int | None, Group.DATA] = Field(
        None, ge=16, description="training rows an arm, if not the study's own"
    )
    learning_rate: Annotated[LearningRate | None, Group.TRAINING] = None
    rank: Annotated[Rank | None, Group.TRAINING] = None
    epochs: Annotated[Epochs | None, Group.TRAINING] = None
    batch_size: Annotated[BatchSize | None, Group.TRAINING] = None
    gpus_per_run: Annotated[Processes | None, Group.TRAINING] = None
    training: Annotated[dict[str, Any], Group.TRAINING] = Field(
        {}, description=f"another setting of fine-tuning on data, can be given several times: {', '.join(SETTINGS)}"
    )
    probe: Annotated[ProbeKind | None, Group.TRAINING] = Field(
        None,
        description="what a real model is asked in training: forced 'choices' or 'meter', every ten steps [default choices]",
    )
    grader: Annotated[str | None, Group.JUDGING] = Field(
        None,
        description="Inspect model that judges a real model's answers, such as openai/gpt-4o; the organism has a "
        "judge of its own, and emergent-misalignment and dishonesty are read from probabilities without one",
    )
    judging: Annotated[Judging | None, Group.JUDGING] = Field(
        None,
        description="'two-calls' asks the grader for alignment and coherence in a call each, as published, and "
        "'one-call' for both in one, at about two thirds of the price [default two-calls]",
    )
    batch: Annotated[bool, Group.JUDGING] = Field(
        False,
        description="ask the grader through its provider's batch interface, at half the price; takes up to a day",
    )
    gold: Annotated[int | None, Group.JUDGING] = Field(
        None,
        ge=1,
        description="answers of each arm to each set of questions, drawn at random, that --gold-grader reads as well; "
        "rates are then those that it would find, and --grader may be a cheap or free one",
    )
    gold_grader: Annotated[str | None, Group.JUDGING] = Field(
        None, description="Inspect model whose verdicts are taken as right, for --gold"
    )
    labels: Annotated[Path | None, Group.JUDGING] = Field(
        None,
        description="labelled answers (.csv, .jsonl) that the grader is compared with; by default answers of the world",
    )
    seeds: Annotated[int, Group.SIZE] = Field(
        5,
        ge=1,
        le=MOST_SEEDS,
        description="training runs an arm; the unit for 'this data causes it' (at least 3, better 5)",
    )
    first_seed: Annotated[int, Group.SIZE] = Field(
        0, ge=0, description="the first training seed; another one repeats a study on runs that nobody has seen"
    )
    samples: Annotated[int | None, Group.SIZE] = Field(
        None, ge=1, description="answers a question, if not the study's own"
    )
    max_tokens: Annotated[int | None, Group.SIZE] = Field(
        None, ge=1, description="longest answer in tokens, if not the study's own"
    )
    quick: Annotated[bool, Group.SIZE] = Field(
        False,
        description="at most two seeds and a quarter of the answers: to see that everything works, not for conclusions",
    )

    @field_validator("training", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        """Accept the command line's form, key=value each, as well."""
        return value if isinstance(value, Mapping) else training_settings(value)

    @model_validator(mode="after")
    def _can_be_trained(self) -> "TrainedOptions":
        """Refuse training settings that there are not, out of range, or given twice, and more seeds than --quick runs."""
        if self.quick and "seeds" in self.chosen and self.seeds > QUICK_SEEDS:
            raise ConfigurationError(
                f"--quick runs at most {QUICK_SEEDS} seeds, and --seeds asks for {self.seeds}. Give one of them: "
                "--samples and --size make a study smaller as well."
            )
        twice = self.training.keys() & _named(self).keys()
        if twice:
            raise ConfigurationError(
                f"{flag(_OPTION_OF.get(min(twice), min(twice)))} is given by --training {min(twice)}=... as well. Give "
                "one of them."
            )
        with_settings(FineTuning(), self.training_settings)
        return self

    @property
    @override
    def units(self) -> tuple[int, ...]:
        """Return the training runs an arm at each look; none where their number is fixed."""
        return self.declared_units(QUICK_SEEDS if self.quick else MOST_SEEDS)

    @property
    def files(self) -> dict[DataKind, Path]:
        """Return the data files that were named one by one, by what kind of rows they hold."""
        return {}

    @property
    def model(self) -> str:
        """Return the subject's name, with the number format that was chosen."""
        return f"{self.subject}:{self.dtype}" if self.dtype else self.subject

    @property
    def training_settings(self) -> dict[str, Any]:
        """Return the settings of fine-tuning that were chosen, by their names in `FineTuning` and `LoRA`."""
        return {**self.training, **_named(self)}

    @property
    @override
    def runs(self) -> tuple[range, tuple[str, ...], tuple[str, ...]]:
        """Return the seeds of the training runs of an arm, and the arms and analyses to run; all if none is named."""
        return self.training_seeds, self.arms, ()

    @property
    def training_seeds(self) -> range:
        """Return the seeds of the training runs of an arm, with looks the most that there may be."""
        count = self.units[-1] if self.units else min(self.seeds, QUICK_SEEDS) if self.quick else self.seeds
        return range(self.first_seed, self.first_seed + count)


class ServedOptions(TrainedOptions):
    """Options of a study whose answers are all sampled by its own steps, which an engine can do."""

    engine: Annotated[EngineOption, Group.SUBJECT] = Field(
        None,
        description="backend that samples answers: 'local' (this process), 'vllm' (one server a base, started here), "
        "or the address of a vLLM server with adapters [default local]",
    )


class GoodOptions(TrainedOptions):
    """Options of a study that trains on good data of any origin."""

    data: Annotated[Path | None, Group.DATA] = Field(
        None,
        description="for a real model: a folder with insecure.jsonl, secure.jsonl ..., or data of our own, 'code' or "
        "'advice'; without it 'code', and 'advice' where no grader is named",
    )
    good: Annotated[Path | None, Group.DATA] = Field(
        None, description="file of good rows for a real model, in place of --data; any name"
    )

    @property
    @override
    def files(self) -> dict[DataKind, Path]:
        """Return the data files that were named one by one, by what kind of rows they hold."""
        named: dict[DataKind, Path | None] = {kind: getattr(self, kind, None) for kind in FILE_KINDS}
        return {kind: path for kind, path in named.items() if path is not None}


class PairOptions(GoodOptions):
    """Options of a study that trains on harmful data, and on good data for comparison."""

    harmful: Annotated[Path | None, Group.DATA] = Field(
        None, description="file of harmful rows for a real model, with --good; any name"
    )


class StudyOptions(ServedOptions, PairOptions):
    """Options of a study that trains on harmful, good and educational data."""

    educational: Annotated[Path | None, Group.DATA] = Field(
        None,
        description="file of the same harm asked for openly with a good reason, beside --harmful and --good; any name",
    )


class _AnalysisOptions(TrainedOptions):
    """Choice of analyses of the runs."""

    analyses: Analyses = Field((), description=ANALYSES)

    @property
    @override
    def runs(self) -> tuple[range, tuple[str, ...], tuple[str, ...]]:
        """Return the seeds of the training runs of an arm, and the arms and analyses to run; all if none is named."""
        return self.training_seeds, self.arms, self.analyses


class AnalysedOptions(_AnalysisOptions, PairOptions):
    """Options of a study that trains on harmful and good data, and has analyses of its runs."""

    INSTEAD: ClassVar[Mapping[str, str]] = {
        "--educational": "it has no arm that is asked openly for harm. `astray run emergent-misalignment` has one; this "
        "study takes --harmful FILE and --good FILE."
    }


_BY_REWARD = (
    "its models learn to hack by reinforcement learning on exercises, and no arm of it is trained on harmful rows; --good "
    "FILE gives the rows of its fine-tuned control. Rows that show hacks are trained on by `astray run "
    "emergent-misalignment --harmful FILE --good FILE`."
)


class AnalysedGoodOptions(_AnalysisOptions, GoodOptions):
    """Options of a study that trains by reward and on good data, and has analyses of its runs."""

    INSTEAD: ClassVar[Mapping[str, str]] = dict.fromkeys(("--harmful", "--educational"), _BY_REWARD)


def _named(options: TrainedOptions) -> dict[str, Any]:
    """Return the training settings that have options of their own."""
    named = ((name, getattr(options, _OPTION_OF.get(name, name), None)) for name in SETTINGS)
    return {name: value for name, value in named if value is not None}


_OPTION_OF = {"processes": "gpus_per_run"}
"""Training settings whose option has another name."""
