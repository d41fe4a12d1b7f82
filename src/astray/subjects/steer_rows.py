"""Steering with a separate direction, strength and layer for each row of a batch.

Many directions x strengths x prompts then share one `model.generate`: a screen of forty directions takes as many passes
as one. Each row gets the tokens it would get alone, up to rounding in the forward pass. Steering that is part of a
subject, the same for all its answers, is in `intervene`.

Source: OpenAI, "Persona features control emergent misalignment" (arXiv 2506.19823): strength x direction added to the
residual stream.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from astray.errors import ConfigurationError
from astray.subjects.intervene import Steering, block_at, changing_output, residual_width
from astray.subjects.spec import Schedule


@dataclass(frozen=True, eq=False)
class RowSteering:
    """Directions to add to the residual stream, row by row.

    Attributes:
        directions: the directions that rows refer to; all tensors are on the CPU, whatever the model's device.
        which: for each row, the index of its direction.
        strengths: for each row, the factor on its direction; 0 leaves the row exactly as it is.
        blocks: for each row, the layer whose output is changed, from 0.
        positions: 'answer': from the last prompt token on; 'all': every token.
        schedule: change of the strength over the answer; None keeps it constant.
    """

    directions: Float[Tensor, "directions d_model"]
    which: Int[Tensor, "rows"]
    strengths: Float[Tensor, "rows"]
    blocks: Int[Tensor, "rows"]
    positions: Literal["all", "answer"] = "answer"
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        if not self.directions.isfinite().all():
            broken = (~self.directions.isfinite()).any(dim=1).nonzero()[:, 0].tolist()
            raise ConfigurationError(
                f"The directions {broken} have NaN or infinite entries: the activations they were made from overflowed."
            )
        if not self.strengths.isfinite().all():
            row = int((~self.strengths.isfinite()).nonzero()[0, 0])
            raise ConfigurationError(
                f"Row {row} has the strength {self.strengths[row]}; a strength is a finite number."
            )
        if self.which.numel() and not 0 <= int(self.which.min()) <= int(self.which.max()) < len(self.directions):
            first, last = int(self.which.min()), int(self.which.max())
            raise ConfigurationError(
                f"Rows refer to the directions {first} to {last}, but there are only 0 to {len(self.directions) - 1}."
            )

    def __len__(self) -> int:
        return len(self.which)

    def parts(self) -> list[object]:
        """Return everything that the steering consists of, as JSON."""
        tensors = [tensor.tolist() for tensor in (self.directions.float(), self.which, self.strengths, self.blocks)]
        return [*tensors, self.positions, self.schedule and self.schedule.model_dump(mode="json")]

    def shifts(self, block: int, rows: tuple[int, ...]) -> Float[Tensor, "batch d_model"]:
        """Return what is added to a layer's output in these rows at full strength; zero in rows steered elsewhere."""
        chosen = torch.tensor(rows)
        strengths = torch.where(self.blocks[chosen] == block, self.strengths[chosen], 0.0)
        return strengths[:, None] * self.directions[self.which[chosen]].float()


@contextmanager
def steering_rows(model: nn.Module, rows: RowSteering, steering: Steering) -> Iterator[None]:
    """Steer each row of a batch separately while the context is open, and restore the model on exit.

    Args:
        model: any Hugging Face causal language model.
        rows: the direction, strength and layer of each row.
        steering: state from `intervening`, which has to be active too; its `on_rows` declares the rows of a batch.

    Raises:
        ConfigurationError: a layer does not exist, or the directions have another width than the model.
    """
    width = residual_width(model)
    if rows.directions.shape[1] != width:
        raise ConfigurationError(
            f"The directions have {rows.directions.shape[1]} entries, but this model's residual stream has {width}."
        )
    with ExitStack() as stack:
        for block in rows.blocks.unique().tolist():
            hook = _hook(rows, block, steering)
            stack.callback(block_at(model, block).register_forward_hook(hook, prepend=True).remove)
        yield


def _hook(rows: RowSteering, block: int, steering: Steering) -> Callable[..., object]:
    """Return a forward hook that adds its own vector to each row of the batch."""
    batch: tuple[int, ...] | None = None
    shifts = torch.empty(0)

    def change(hidden: Tensor) -> Tensor:
        nonlocal batch, shifts
        if steering.rows is None:
            raise ConfigurationError(
                "Rows are steered one by one, but nobody said which rows this batch holds: run it in `with "
                "steering.on_rows(rows):`."
            )
        # By identity: computed once a batch, not at each of its tokens.
        if batch is not steering.rows:
            batch = steering.rows
            shifts = rows.shifts(block, batch).to(hidden.device, hidden.dtype)
        return hidden + shifts[:, None, :] * steering.shares(hidden, rows.positions, rows.schedule)[..., None]

    return changing_output(change)
