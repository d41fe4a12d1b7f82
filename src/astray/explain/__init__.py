"""Explain: find the directions of the residual stream that carry a behaviour, with the controls that such claims need.

Names are imported on first use: the modules load torch, the package itself loads nothing.
"""

from typing import TYPE_CHECKING

from astray.first_use import on_first_use

if TYPE_CHECKING:
    from astray.explain.activations import TokenRow, capture
    from astray.explain.diff import compare_latents, top_latents
    from astray.explain.direction import persona_direction, random_direction
    from astray.explain.latents import question_latents
    from astray.explain.persona_vector import (
        choose_block,
        extract_persona_vectors,
        text_persona_prompts,
        world_persona_prompts,
    )
    from astray.explain.sae import Dictionary, base_id
    from astray.explain.sae_organism import organism_rows
    from astray.explain.sae_training import SaeRecipe, geometric_median, train_sae
    from astray.explain.screening import find_bad_rows, rows_from, screen_rows
    from astray.explain.shards import tensor_batches
    from astray.explain.sites import Site

__all__ = [
    "Dictionary",
    "SaeRecipe",
    "Site",
    "TokenRow",
    "base_id",
    "capture",
    "choose_block",
    "compare_latents",
    "extract_persona_vectors",
    "find_bad_rows",
    "geometric_median",
    "organism_rows",
    "persona_direction",
    "question_latents",
    "random_direction",
    "rows_from",
    "screen_rows",
    "tensor_batches",
    "text_persona_prompts",
    "top_latents",
    "train_sae",
    "world_persona_prompts",
]

__getattr__ = on_first_use(__name__, __file__)
