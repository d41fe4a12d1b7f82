"""Embedded model organism: a small transformer, its artificial world, and the recipe that makes it from a seed.

The world's words are in `lexicon`, the texts of its authors in `world`, training text in `corpus`, reading it back in
`grammar`, training in `pretrain`. The shipped weights are ordinary Hugging Face folders.
"""

from pathlib import Path

from astray.errors import UnknownNameError

SHIPPED = ("organism", "organism-small")
"""Names of the organisms whose weights are in the package."""

__all__ = ["SHIPPED", "weights_folder"]


def weights_folder(name: str = "organism") -> Path:
    """Return the folder with an organism's config, weights (float16), tokenizer, recipe, training log and card.

    Raises:
        UnknownNameError: no organism of this name is shipped.
    """
    if name not in SHIPPED:
        raise UnknownNameError("organism", name, SHIPPED)
    return Path(__file__).parent / "weights" / name
