"""The persona direction by difference of means: where a tuned model's activations went, compared with its base.

The simplest explanation there is, and the baseline for every better one: mean activation at the last prompt token, tuned minus base, at the
output of a block. Adding it to the base and taking it from the tuned model shows whether it carries the behaviour.

Source: Soligo et al. 2025 (arXiv 2506.11618); a random direction of the same norm is the control that belongs to it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from astray.data.chat import Message
from astray.errors import ConfigurationError, EmptyDataError
from astray.subjects.generate import left_padded
from astray.subjects.intervene import blocks_of
from astray.subjects.subject import Subject


def last_prompt_activations(subject: Subject, conversations: Sequence[Sequence[Message]], block: int) -> Float[Tensor, "prompts d_model"]:
    """Residual stream at the output of a block, at the last prompt token (from which the first answer token is predicted).

    Args:
        subject: a loaded subject.
        conversations: prompts.
        block: number of the block, from 0.

    Raises:
        EmptyDataError: there are no prompts.
        ConfigurationError: there is no such block.
    """
    if not conversations:
        raise EmptyDataError("Activations need at least one prompt.")
    with subject.merged() as model, torch.inference_mode():
        blocks = blocks_of(model)
        if not 0 <= block < len(blocks):
            raise ConfigurationError(f"Block {block} does not exist: the model has the blocks 0 to {len(blocks) - 1}.")
        tokens, mask = left_padded(subject.prompt_ids(conversations), subject.tokenizer.pad_token_id, subject.device)
        taken: list[Tensor] = []

        def take(_module: object, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            taken.append(hidden[:, -1].float().clone())

        handle = blocks[block].register_forward_hook(take)
        try:
            model(input_ids=tokens, attention_mask=mask)
        finally:
            handle.remove()
    return taken[0]


def mean_difference(tuned: Subject, base: Subject, conversations: Sequence[Sequence[Message]], block: int) -> Float[Tensor, "d_model"]:
    """The mean-difference direction: mean activation of the tuned model minus that of the base, on the same prompts."""
    return last_prompt_activations(tuned, conversations, block).mean(0) - last_prompt_activations(base, conversations, block).mean(0)


def random_direction(like: Float[Tensor, "d_model"], seed: int) -> Float[Tensor, "d_model"]:
    """A random direction of the same norm: the control."""
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)
    return noise / noise.norm() * like.norm()
