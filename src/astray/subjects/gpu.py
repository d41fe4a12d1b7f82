"""Room on a GPU: whoever fills one and can leave it says so here, and is asked to before a model is loaded onto it."""

from collections.abc import Callable

LEAVING: list[Callable[[], None]] = []
"""Called before a model is loaded onto a GPU."""


def make_room() -> None:
    """Have those leave the GPU that can."""
    for leave in LEAVING:
        leave()
