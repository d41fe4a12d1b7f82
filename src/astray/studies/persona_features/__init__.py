"""Persona features (arXiv 2506.19823): the latents that carry emergent misalignment, and how to undo it."""
