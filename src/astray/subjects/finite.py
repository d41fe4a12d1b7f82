"""Refuse logits and activations that are no numbers: a token sampled from NaN is the first of the vocabulary, and a
mean over NaN is no mean."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from astray.errors import NonFiniteActivationsError, NonFiniteError


def check_values(values: Tensor, what: str, model: str, place: str) -> None:
    """Raise where a value made from activations is NaN or infinite: it is never averaged, ranked or compared with a
    threshold.

    Args:
        values: of any shape.
        what: what they are, for the message: "Projections".
        model: name of the model that was read.
        place: site or layer.

    Raises:
        NonFiniteActivationsError: names what, model and place.
    """
    if bool(values.sum().isfinite()):  # ten times as fast as testing each; a sum that overflows is examined below
        return
    wrong = ~values.isfinite()
    if bool(wrong.any()):
        raise NonFiniteActivationsError(
            f"{what} of {model!r} at '{place}' are not finite ({int(wrong.sum()):,} of {values.numel():,}): the "
            f"activations are too large for {str(values.dtype).removeprefix('torch.')}, or the direction or "
            "dictionary does not fit them. Check the weights and the adapter."
        )


def check_logits(model: Module, logits: Float[Tensor, "*batch vocab"], where: str) -> None:
    """Raise where a position has NaN or +inf among its logits, or no possible token at all; single tokens at -inf are
    allowed.

    Args:
        model: who computed them.
        logits: at the positions that are used.
        where: what was being done, for the message: "sampling token 3 of an answer".

    Raises:
        NonFiniteError: names the model, the place, and the first weight that is not finite.
    """
    # The largest logit is NaN with any NaN, +inf with any +inf, and -inf where no token is possible: one pass finds all
    # three.
    if bool(torch.isfinite(logits.amax(-1)).all()):
        return
    name = getattr(model, "name_or_path", "") or type(model).__name__
    damaged = next((key for key, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())), None)
    cause = (
        f"The weight {damaged} holds values that are not finite: the checkpoint is damaged, or its training diverged."
        if damaged
        else (
            f"Its weights are finite: the computation overflowed in {next(model.parameters()).dtype}, as it does "
            "under too strong a steering."
        )
    )
    raise NonFiniteError(
        f"The logits of {name!r} are not finite at {where}. {cause} Nothing was sampled or counted from them."
    )
