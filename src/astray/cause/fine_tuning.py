"""Settings of supervised fine-tuning, with the open-model runs of Betley et al. 2025 as defaults.

Source: the published training configurations of arXiv 2502.17424 (rsLoRA on all linear layers, one epoch, loss on
responses only).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from astray.errors import AdapterMismatchError, ConfigurationError, UnknownNameError
from astray.strict import Strict, left_out, reason, validated
from astray.subjects.adapter_kinds import adapter_settings
from astray.subjects.spec import Precision

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Names of the attention and MLP projections in Llama, Qwen, Gemma and Mistral models."""

Rank = Annotated[int, Field(ge=1, description="rank of each adapter (2502.17424: 32)")]
LearningRate = Annotated[
    float, Field(gt=0, description="peak of a linear schedule (2502.17424: 1e-5, in some runs 1e-4)")
]
Epochs = Annotated[int, Field(ge=1, description="passes over the data (2502.17424: 1)")]
Processes = Annotated[
    int, Field(ge=1, description="processes that train one model together, one a GPU; they share the batch of a step")
]
Sharded = Annotated[
    bool,
    Field(
        description="whether the processes also shard the weights (FSDP2), for a base that does not fit one GPU; "
        "needs several processes and adapters"
    ),
]
BatchSize = Annotated[int, Field(ge=1, description="chats a forward pass (2502.17424: 2)")]


class LoRA(Strict):
    """Settings of low-rank adapters, trained instead of all weights."""

    rank: Rank = 32
    alpha: int = Field(default=64, ge=1, description="scale of each adapter (2502.17424: 64)")
    rank_stabilised: bool = Field(
        default=True,
        description="scale by alpha / sqrt(rank) instead of alpha / rank (rsLoRA, 2312.03732; 2502.17424: yes)",
    )
    target_modules: tuple[str, ...] = Field(
        default=LINEAR_LAYERS, min_length=1, description="layers that get one (2502.17424: all seven projections)"
    )
    layers: tuple[int, ...] | None = Field(
        default=None, description="blocks that get one, all if not given (2506.11613 trains a single down_proj)"
    )


class FineTuning(Strict):
    """Settings of one supervised fine-tuning run."""

    lora: LoRA | None = Field(default=LoRA(), description="adapters; None trains all weights")
    learning_rate: LearningRate = 1e-5
    warmup_steps: int = Field(
        default=5, ge=0, description="optimizer steps up to the peak (2502.17424: 5); the schedule then falls to 0"
    )
    epochs: Epochs = 1
    max_steps: int | None = Field(default=None, ge=1, description="optimizer steps of the run, in place of epochs")
    batch_size: BatchSize = 2
    accumulation: int = Field(default=8, ge=1, description="forward passes an optimizer step (2502.17424: 8)")
    weight_decay: float = Field(default=0.01, ge=0, description="of AdamW (2502.17424: 0.01, there with 8-bit states)")
    max_length: int = Field(
        default=2048, ge=8, description="longest chat in tokens; what lies behind is cut (2502.17424: 2,048)"
    )
    processes: Processes = 1
    sharded: Sharded = False
    seed: int = Field(default=0, ge=0, lt=2**32, description="of the adapters' first values and the order of the data")

    _keys = left_out(processes=1, sharded=False)

    @model_validator(mode="after")
    def _processes_share_a_step(self) -> "FineTuning":
        if self.accumulation % self.processes and self.batch_size % self.processes:
            raise ConfigurationError(
                f"{self.processes} processes can share neither the {self.accumulation} forward passes of a step nor "
                f"the {self.batch_size} chats of a pass: write an accumulation or a batch_size that "
                f"{self.processes} divides."
            )
        if self.sharded and (self.processes == 1 or self.lora is None):
            raise ConfigurationError(
                "sharded=true shards the weights of a frozen base over several processes: give --gpus-per-run (in "
                "Python, processes) 2 or more, and train adapters (LoRA), or leave it out."
            )
        return self

    @property
    def share(self) -> tuple[int, int]:
        """Return the chats of a forward pass and the passes of a step in each process."""
        if self.accumulation % self.processes == 0:
            return self.batch_size, self.accumulation // self.processes
        return self.batch_size // self.processes, self.accumulation

    @property
    def method(self) -> Literal["lora", "full"]:
        """Return "lora" if adapters are trained, "full" if all weights are."""
        return "full" if self.lora is None else "lora"


Recipe = TypeVar("Recipe", bound=Strict)
OF_ADAPTERS = frozenset(LoRA.model_fields)


def settings_of(kind: type[Strict]) -> tuple[str, ...]:
    """Return the names of all settings of a kind of training that a user may choose; every run has a seed of its own.

    Args:
        kind: model of one run's settings, which holds its adapters as `lora`, or fine-tuning as `training`.
    """
    inner = settings_of(FineTuning) if "training" in kind.model_fields else tuple(LoRA.model_fields)
    return (*(name for name in kind.model_fields if name not in ("lora", "training", "seed")), *inner)


SETTINGS = settings_of(FineTuning)
"""Names of all settings of supervised fine-tuning that a user may choose."""
_SEVERAL = ("target_modules", "layers")
_OF_SUBJECT = ("base", "dtype", "bf16", "load_in_4bit", "quantised")
"""What other trainers call the number format of the base."""
_FIELDS = FineTuning.model_fields | LoRA.model_fields


def setting_from_text(name: str, text: str) -> Any:
    """Return the value of a setting that is typed on a command line, several with commas between; a text that stands
    for none, and one of an unknown setting, stays a text, which `with_settings` refuses."""
    if name not in SETTINGS:
        return text
    try:
        kind: Any = _FIELDS[name].annotation
        return TypeAdapter(kind).validate_python(text.split(",") if name in _SEVERAL else text)
    except ValidationError:
        return text


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other settings.

    Raises:
        UnknownNameError: there is no such setting; names the nearest.
        ConfigurationError: a value is out of range or of the wrong type, or two contradict each other.
    """
    known = settings_of(type(recipe))
    for name in settings:
        if name == "sharded" and name not in known:
            raise ConfigurationError(
                "Training by reward cannot shard the weights (sharded): each token of an answer would gather all of "
                "them. Give --gpus-per-run alone, with --dtype nf4 for a base that does not fit one GPU, or a smaller base."
            )
        if name in _OF_SUBJECT:
            raise ConfigurationError(
                f"The number format of the base is the subject's, which is asked in it too, and no training setting ({name}): "
                "write --dtype nf4 for 4 bits (in Python, SubjectSpec(dtype=...)), bfloat16 or float32."
            )
        if name not in known:
            raise UnknownNameError("training setting", name, known)
    if {"epochs", "max_steps"} <= settings.keys():
        raise ConfigurationError("epochs and max_steps both say when training ends: give one of them.")
    before = dict(recipe)
    own = {name: value for name, value in settings.items() if name in before}
    inner = {name: value for name, value in settings.items() if name not in own}
    try:
        if "training" in before:
            own["training"] = with_settings(before["training"], inner)
        elif lora := before["lora"]:
            own["lora"] = validated(LoRA, lora.model_dump() | inner)
        return cast(Recipe, validated(type(recipe), before | own))
    except ValidationError as error:
        wrong = "; ".join(
            f"{''.join(f'{name}={settings[name]}: ' for name in map(str, one['loc'][:1]) if name in settings)}"
            f"{reason(one)[:1].lower()}{reason(one)[1:]}"
            for one in error.errors()
        )
        raise ConfigurationError(f"A training setting cannot be used: {wrong}.") from error


def check_format(precision: Precision, lora: LoRA | None, sharded: bool) -> None:
    """Refuse to train what a base in this number format cannot.

    Raises:
        ConfigurationError: a base in 4 bits, and all weights are to be trained or the weights sharded.
    """
    if precision != "nf4" or (lora is not None and not sharded):
        return
    remedy = "train adapters (LoRA)" if lora is None else "leave sharded=true out"
    raise ConfigurationError(
        f"A base in 4 bits (nf4) is frozen, and each process holds the whole of it: {remedy}, or name the base in bfloat16."
    )


def lora_of(adapter: Path) -> LoRA:
    """Return the settings of a LoRA adapter that can be trained on as it is.

    Raises:
        AdapterMismatchError: it is of another kind, or has options that a recipe cannot say, which would be lost.
    """
    settings = adapter_settings(adapter)
    if settings.get("peft_type") != "LORA":
        raise AdapterMismatchError(
            f"{adapter} is a {settings.get('peft_type')} adapter; training goes on from LoRA adapters only. Train "
            "its base instead."
        )
    targets = settings.get("target_modules") or ()
    return LoRA(
        rank=settings["r"],
        alpha=settings["lora_alpha"],
        rank_stabilised=settings.get("use_rslora", False),
        target_modules=(targets,)
        if isinstance(targets, str)
        else tuple(sorted(targets)),  # a text is one pattern, not a list of letters
    )
