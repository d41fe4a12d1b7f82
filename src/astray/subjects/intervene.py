"""Interventions on the residual stream with plain forward hooks: add a direction to a block's output, or project it out.

A block is named by its number and changed at its OUTPUT; `hidden_states[k]` of Hugging Face is the output of block k - 1, which is
why no index into `hidden_states` appears here. Where directions come from is the business of `explain`.

Source: OpenAI, "Persona features control emergent misalignment" (arXiv 2506.19823): strength x direction added to the residual
stream; Soligo et al. (arXiv 2506.11618): mean-difference directions, ablation by projection.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig

from astray.errors import ConfigurationError, SubjectNotFoundError
from astray.subjects.spec import Intervention

__all__ = ["Intervention", "Steering", "blocks_of", "intervening", "read_direction", "write_direction"]

DIRECTION = "direction"
"""Name of the tensor in a direction file."""


class Steering:
    """Where answers begin, for interventions at answer positions.

    While sampling nothing has to be said: with padding on the left, the last column of every forward pass is the last prompt token first
    and then each answer token. A pass over whole conversations says where their answers begin with `answers_from`.
    """

    def __init__(self) -> None:
        self._starts: Tensor | None = None

    @contextmanager
    def answers_from(self, columns: Int[Tensor, "batch"]) -> Iterator[None]:
        """Inside, a forward pass is over whole conversations.

        Args:
            columns: for each row, the column of the last prompt token, padding counted.
        """
        self._starts = columns
        try:
            yield
        finally:
            self._starts = None

    def answer_positions(self, hidden: Float[Tensor, "batch seq d_model"]) -> Bool[Tensor, "batch seq"]:
        """Which positions belong to an answer, from the last prompt token on."""
        batch, length = hidden.shape[:2]
        columns = torch.arange(length, device=hidden.device)
        if self._starts is None:
            return (columns == length - 1).expand(batch, length)
        return columns[None, :] >= self._starts.to(hidden.device)[:, None]


@contextmanager
def intervening(model: nn.Module, interventions: Sequence[Intervention]) -> Iterator[Steering]:
    """Inside, the model runs with the interventions; afterwards it is as it was.

    Args:
        model: any Hugging Face causal language model, with or without PEFT layers.
        interventions: what to change, in this order when two act on the same block.

    Raises:
        ConfigurationError: a block does not exist, a direction has another width than the model or cannot be used.

    Example:
        with intervening(model, [Intervention(kind="add", vector=path, block=2)]):
            model.generate(...)
    """
    steering = Steering()
    with ExitStack() as stack:
        for intervention in reversed(interventions):
            block = _block(model, intervention.block)
            device = next((parameter.device for parameter in block.parameters()), None)
            direction = _fitting_direction(model, intervention).to(device, torch.float32)
            # First in line, so that whoever reads this block's output (Hugging Face's hidden_states too) reads the changed one.
            handle = block.register_forward_hook(_hook(intervention, direction, steering), prepend=True)
            stack.callback(handle.remove)
        yield steering


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The transformer blocks of a causal language model, in order.

    They are the outermost list of modules that is as long as the configuration says the model is deep; parts that see or hear are left out.

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
        raise ConfigurationError(f"{type(model).__name__} has no list of {depth} blocks, so nothing can be steered or read at a block.")
    return min(lists, key=lambda entry: entry[0].count("."))[1]


def read_direction(path: Path) -> Float[Tensor, "d_model"]:
    """The direction in a safetensors file.

    Raises:
        SubjectNotFoundError: there is no such file.
        ConfigurationError: it holds no usable direction.
    """
    if not path.is_file():
        raise SubjectNotFoundError(f"There is no direction file {path}. Write one with write_direction(path, direction).")
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            direction: Tensor | None = file.get_tensor(DIRECTION) if DIRECTION in names else None
    except SafetensorError as error:
        raise ConfigurationError(f"{path} is no safetensors file ({error}). Write it with write_direction(path, direction).") from error
    if direction is None:
        raise ConfigurationError(f"{path} holds {names or 'nothing'}, but a direction file holds one tensor called {DIRECTION!r}.")
    return _checked(direction, str(path))


def write_direction(path: Path, direction: Float[Tensor, "d_model"]) -> Path:
    """Writes a direction as float32 to a safetensors file and returns its path.

    Raises:
        ConfigurationError: the direction has NaN or infinite entries, or is zero.
    """
    save_file({DIRECTION: _checked(direction, "The direction").detach().float().cpu().contiguous()}, path)
    return path


def _checked(direction: Tensor, source: str) -> Tensor:
    if direction.ndim != 1:
        raise ConfigurationError(f"{source} has the shape {tuple(direction.shape)}; a direction is one vector of length d_model.")
    if not direction.isfinite().all():
        broken = int((~direction.isfinite()).sum())
        raise ConfigurationError(
            f"{source} has {broken} NaN or infinite of {len(direction)} entries: the activations it was made from overflowed, or were empty."
        )
    if not direction.any():
        raise ConfigurationError(f"{source} is zero everywhere: it points nowhere. Two equal sets of activations have no difference.")
    return direction


def _text_config(model: nn.Module) -> PreTrainedConfig:
    return cast(PreTrainedConfig, model.config).get_text_config()


def _block(model: nn.Module, number: int) -> nn.Module:
    blocks = blocks_of(model)
    if number >= len(blocks):
        raise ConfigurationError(f"There is no block {number}: this model has {len(blocks)}, so a block is one of 0 to {len(blocks) - 1}.")
    return blocks[number]


def _fitting_direction(model: nn.Module, intervention: Intervention) -> Tensor:
    direction, width = read_direction(intervention.vector), _text_config(model).hidden_size
    if len(direction) != width:
        raise ConfigurationError(f"The direction {intervention.vector} has {len(direction)} entries, but this model's residual stream has {width}.")
    return direction


def _hook(intervention: Intervention, direction: Tensor, steering: Steering) -> Callable[..., object]:
    """A forward hook that applies one intervention to a block's output, which may be a tensor or a tuple that starts with it."""

    unit = direction / direction.norm()

    def change(hidden: Tensor) -> Tensor:
        if intervention.kind == "add":
            shift = (intervention.strength * direction).to(hidden.dtype).expand_as(hidden)
        else:
            shift = (-intervention.strength * (hidden.float() @ unit)[..., None] * unit).to(hidden.dtype)
        if intervention.positions == "answer":
            shift = shift * steering.answer_positions(hidden)[..., None]
        return hidden + shift

    def hook(_module: nn.Module, _inputs: object, output: Tensor | tuple) -> Tensor | tuple:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    return hook
