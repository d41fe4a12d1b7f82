"""Explain: find the directions of the residual stream that carry a behaviour, with the controls that such claims need.

Names are imported on first use: the modules load torch, the package itself loads nothing.
"""

from typing import TYPE_CHECKING

from astray.first_use import on_first_use

if TYPE_CHECKING:
    from astray.explain.direction import persona_direction, random_direction
    from astray.explain.persona_vector import (
        choose_block,
        extract_persona_vectors,
        text_persona_prompts,
        world_persona_prompts,
    )
    from astray.explain.screening import find_bad_rows, rows_from, screen_rows

__all__ = [
    "choose_block",
    "extract_persona_vectors",
    "find_bad_rows",
    "persona_direction",
    "random_direction",
    "rows_from",
    "screen_rows",
    "text_persona_prompts",
    "world_persona_prompts",
]

__getattr__ = on_first_use(__name__, __file__)
