"""Interventions during training: preventative steering, and ablation by projection.

Preventative steering adds a persona's direction in every training pass. The data then need not move the weights along
it, and without the addition the trained model is closer to the original one. Ablation removes the direction instead, so
that training cannot use it, though it may find another route. Both act on training passes only: not in probes, not in
the preflight checks, not in the trained model.

At positions 'answer' an intervention begins at the last token before the first supervised one, as in sampling.

Source: Anthropic 2025, "Persona vectors" (arXiv 2507.21509), section 5; Wang et al. 2025 (arXiv 2506.19823) on blocking
latents in training.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jaxtyping import Int
from torch import Tensor, nn

from astray.cause.supervision import MASKED
from astray.subjects.intervene import check_origin, intervening
from astray.subjects.spec import Intervention


@contextmanager
def training_under(
    model: nn.Module, interventions: Sequence[Intervention], labels: Int[Tensor, "batch seq"]
) -> Iterator[None]:
    """Apply the interventions to the forward and backward pass of one batch while the context is open.

    Args:
        model: the model in training, as the trainer holds it.
        interventions: interventions in order; may be empty.
        labels: the batch's labels, masked where there is no loss; each row has a supervised token.
    """
    if not interventions:
        yield
        return
    columns = ((labels != MASKED).int().argmax(1) - 1).clamp(min=0)
    with intervening(model, interventions) as steering, steering.answers_from(columns):
        yield


def check_interventions(model: nn.Module, base: Path, interventions: Sequence[Intervention]) -> None:
    """Check before a run that its interventions fit the model, whose base's files are in the folder.

    Raises:
        ConfigurationError: a layer does not exist, or a direction is of another model or cannot be used.
        SubjectNotFoundError: a direction file does not exist.
    """
    check_origin(interventions, base)
    with intervening(model, interventions):
        pass
