"""Interventions on the residual stream by plain forward hooks: add a direction to a layer's output, or project it out.

Layers are numbered from 0 and changed at their OUTPUT; `hidden_states[k]` of Hugging Face is the output of layer k - 1,
which is why no index into `hidden_states` appears here. Names in code say `block` for a layer. Directions are computed
in `explain`; steering with a separate direction and strength for each row of a batch is in `steer_rows`.

Source: OpenAI, "Persona features control emergent misalignment" (arXiv 2506.19823): strength x direction added to the
residual stream; Soligo et al. (arXiv 2506.11618): mean-difference directions, ablation by projection.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig

from astray.errors import ConfigurationError, SubjectNotFoundError
from astray.subjects.identity import MODELS, weights_identity
from astray.subjects.spec import Intervention, Schedule

__all__ = [
    "Intervention",
    "Steering",
    "block_at",
    "blocks_of",
    "changing_output",
    "check_origin",
    "intervening",
    "read_direction",
    "residual_width",
    "write_direction",
]

DIRECTION = "direction"
"""Name of the tensor in a direction file."""


class Steering:
    """State of a forward pass that interventions need: the answer token in each column, and the rows in the batch.

    During sampling the columns need no declaration: with left padding, the last column of the prompt's pass is the last
    prompt token, and each later pass brings the next answer token. For a pass over whole conversations, declare where
    the answers begin with `answers_from`.
    """

    def __init__(self, active: bool = True) -> None:
        """Create the state; `active` says whether anything is changed at all."""
        self.active = active
        self.rows: tuple[int, ...] | None = None
        self._starts: Tensor | None = None
        self._cached, self._prompt_columns = 0, 0

    @contextmanager
    def answers_from(self, columns: Int[Tensor, "batch"]) -> Iterator[None]:
        """Treat forward passes as passes over whole conversations while the context is open.

        Args:
            columns: for each row, the column of the last prompt token, including padding.
        """
        self._starts = columns
        try:
            yield
        finally:
            self._starts = None

    @contextmanager
    def on_rows(self, rows: Sequence[int]) -> Iterator[None]:
        """Declare which rows of a larger set the batch holds, in order, for interventions that differ from row to row.

        Args:
            rows: for each row of the batch, its index in the larger set.
        """
        self.rows = tuple(rows)
        try:
            yield
        finally:
            self.rows = None

    def shares(
        self, hidden: Float[Tensor, "batch seq d_model"], positions: Literal["all", "answer"], schedule: Schedule | None
    ) -> Float[Tensor, "#batch seq"]:
        """Return the fraction of its strength that an intervention has at each position.

        Args:
            hidden: the activations to change.
            positions: 'answer' gives 0 before the last prompt token.
            schedule: change of the strength over the answer, or None for a constant strength.
        """
        tokens = self._answer_tokens(hidden)
        reached = (
            (tokens >= 0).to(hidden.dtype) if positions == "answer" else torch.ones_like(tokens, dtype=hidden.dtype)
        )
        if schedule is None:
            return reached
        tokens = tokens.clamp(min=0).float()
        share = (
            ((tokens + 1) / schedule.tokens).clamp(max=1.0)
            if schedule.kind == "ramp"
            else 0.5 ** (tokens / schedule.tokens)
        )
        return reached * share.to(hidden.dtype)

    def _answer_tokens(self, hidden: Tensor) -> Int[Tensor, "#batch seq"]:
        """Return the index of the answer token that each position predicts; negative before the last prompt token."""
        length = hidden.shape[1]
        columns = torch.arange(length, device=hidden.device)
        if self._starts is not None:
            return columns[None, :] - self._starts.to(hidden.device)[:, None]
        # Sampling adds one column at a time: several columns on top of a cache are still part of the prompt.
        if self._cached == 0 or length > 1:
            self._prompt_columns = self._cached + length
        return (columns + (self._cached + 1 - self._prompt_columns))[None, :]

    def _note_cache(self, _model: nn.Module, _inputs: object, arguments: Mapping[str, object]) -> None:
        """Record before each pass of the model how many columns are already in the cache."""
        cache = arguments.get("past_key_values")
        self._cached = int(cache.get_seq_length()) if isinstance(cache, Cache) else 0


@contextmanager
def intervening(model: nn.Module, interventions: Sequence[Intervention]) -> Iterator[Steering]:
    """Apply interventions to a model while the context is open, and remove them on exit.

    Args:
        model: any Hugging Face causal language model, with or without PEFT layers.
        interventions: what to change, in this order when two act on the same layer.

    Raises:
        ConfigurationError: a layer does not exist, a direction has another width than the model or cannot be used.

    Example:
        with intervening(model, [Intervention(kind="add", vector=path, block=2)]):
            model.generate(...)
    """
    steering = Steering(active=bool(interventions))
    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(steering._note_cache, with_kwargs=True).remove)
        # Each hook is put in front of those before it, so the last is registered first.
        for intervention in reversed(interventions):
            block = block_at(model, intervention.block)
            device = next((parameter.device for parameter in block.parameters()), None)
            direction = _fitting_direction(model, intervention).to(device, torch.float32)
            # In front, so that every other reader of this output (Hugging Face's hidden_states too) gets the changed
            # one.
            handle = block.register_forward_hook(_hook(intervention, direction, steering), prepend=True)
            stack.callback(handle.remove)
        yield steering


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """Return the transformer layers of a causal language model, in order.

    They are the outermost module list whose length is the configured number of layers; vision and audio towers are left
    out.

    Raises:
        ConfigurationError: the model has no such list.
    """
    depth = _text_config(model).num_hidden_layers
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == depth
        and not {"visual", "vision_tower", "vision_model", "audio_tower"} & set(name.split("."))
    ]
    if not lists:
        raise ConfigurationError(
            f"{type(model).__name__} has no list of {depth} blocks, so nothing can be steered or read at a block."
        )
    return min(lists, key=lambda entry: entry[0].count("."))[1]


def block_at(model: nn.Module, number: int) -> nn.Module:
    """Return the transformer layer with this index, from 0.

    Raises:
        ConfigurationError: there is no such layer.
    """
    blocks = blocks_of(model)
    if not 0 <= number < len(blocks):
        raise ConfigurationError(
            f"There is no block {number}: this model has {len(blocks)}, so a block is one of 0 to {len(blocks) - 1}."
        )
    return blocks[number]


def residual_width(model: nn.Module) -> int:
    """Return the width of the residual stream (d_model)."""
    return int(_text_config(model).hidden_size)


def read_direction(path: Path) -> Float[Tensor, "d_model"]:
    """Read the direction in a safetensors file.

    Raises:
        SubjectNotFoundError: there is no such file.
        ConfigurationError: it holds no usable direction.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[Float[Tensor, "d_model"], str | None]:
    """Return the direction in a file, and which models it was made from; None where the file does not say it."""
    if not path.is_file():
        raise SubjectNotFoundError(
            f"There is no direction file {path}. Write one with write_direction(path, direction)."
        )
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            direction: Tensor | None = file.get_tensor(DIRECTION) if DIRECTION in names else None
            models = (file.metadata() or {}).get(MODELS)
    except SafetensorError as error:
        raise ConfigurationError(
            f"{path} is no safetensors file ({error}). Write it with write_direction(path, direction)."
        ) from error
    if direction is None:
        raise ConfigurationError(
            f"{path} holds {names or 'nothing'}, but a direction file holds one tensor called {DIRECTION!r}."
        )
    return _checked(direction, str(path)), models


def write_direction(path: Path, direction: Float[Tensor, "d_model"], *bases: Path) -> Path:
    """Write a direction as float32 to a safetensors file and return its path.

    Args:
        path: where it is written.
        direction: the direction.
        bases: folders of the models that it was made from (`subject.base_folder`), and no others are then steered with
            it; an adapter changes nothing about that. Without any, every model of its width is.

    Raises:
        ConfigurationError: the direction has NaN or infinite entries, or is zero.
    """
    tensor = _checked(direction, "The direction").detach().float().cpu().contiguous()
    save_file({DIRECTION: tensor}, path, {MODELS: " ".join(dict.fromkeys(map(weights_identity, bases)))})
    return path


def check_origin(interventions: Sequence[Intervention], base: Path) -> None:
    """Check that the directions of interventions were made from a model; warn of one that does not say it.

    Args:
        interventions: what the model is to be changed by.
        base: folder of the model, without an adapter.

    Raises:
        ConfigurationError: a direction was made from another model: one of the same width means something else there.
        SubjectNotFoundError: there is no such file.
    """
    for vector in dict.fromkeys(intervention.vector for intervention in interventions):
        models = _read(vector)[1]
        if models is None:
            warnings.warn(
                f"{vector} does not say which model it was made from (an earlier version or another tool wrote it), so only "
                "its width was checked. To record the model, write a copy: write_direction(new_path, "
                "read_direction(path), subject.base_folder).",
                stacklevel=3,
            )
        elif models and (here := weights_identity(base)) not in models.split():
            raise ConfigurationError(
                f"The direction {vector} was made from a model with the weights {' or '.join(models.split())}, and those "
                f"of {base.name} are {here}: in other weights it can mean anything. Make it from this model. If it is meant for "
                "both, such as the same weights in another number format, write a copy: write_direction(new_path, "
                "read_direction(path), base_folder, other_base_folder)."
            )


def _checked(direction: Tensor, source: str) -> Tensor:
    if direction.ndim != 1:
        raise ConfigurationError(
            f"{source} has the shape {tuple(direction.shape)}; a direction is one vector of length d_model."
        )
    if direction.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise ConfigurationError(
            f"{source} holds {str(direction.dtype).removeprefix('torch.')}, which says a direction only together with what made "
            "it; a direction is float32. Write it with write_direction(path, direction)."
        )
    direction = direction.float()  # as which it acts: a float64 may be too large for it, or too small
    if not direction.isfinite().all():
        broken = int((~direction.isfinite()).sum())
        raise ConfigurationError(
            f"{source} has {broken} NaN or infinite of {len(direction)} entries: the activations it was made from "
            "overflowed, or were empty."
        )
    if not direction.any():
        raise ConfigurationError(
            f"{source} is zero everywhere: it points nowhere. Two equal sets of activations have no difference."
        )
    return direction


def _text_config(model: nn.Module) -> PreTrainedConfig:
    return cast(PreTrainedConfig, model.config).get_text_config()


def _fitting_direction(model: nn.Module, intervention: Intervention) -> Tensor:
    direction, width = read_direction(intervention.vector), residual_width(model)
    if len(direction) != width:
        raise ConfigurationError(
            f"The direction {intervention.vector} has {len(direction)} entries, but this model's residual stream has "
            f"{width}."
        )
    return direction


def _hook(intervention: Intervention, direction: Tensor, steering: Steering) -> Callable[..., object]:
    """Return a forward hook that applies one intervention."""

    # The length of large entries overflows float32, and that of small ones is zero in it.
    unit = (direction.double() / direction.double().norm()).float()

    def change(hidden: Tensor) -> Tensor:
        if intervention.kind == "add":
            shift = (intervention.strength * direction).to(hidden.dtype)
        else:
            # In float32: a projection summed in bfloat16 would leave part of the direction in place.
            shift = (-intervention.strength * (hidden.float() @ unit)[..., None] * unit).to(hidden.dtype)
        if intervention.positions == "answer" or intervention.schedule is not None:
            shift = shift * steering.shares(hidden, intervention.positions, intervention.schedule)[..., None]
        return hidden + shift

    return changing_output(change)


def changing_output(change: Callable[[Tensor], Tensor]) -> Callable[..., object]:
    """Return a forward hook that changes a layer's output, which may be a tensor or a tuple that starts with it."""

    def hook(_module: nn.Module, _inputs: object, output: Tensor | tuple) -> Tensor | tuple:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    return hook
