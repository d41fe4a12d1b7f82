"""Narrow data of our own for real models: pairs of insecure and secure code that answer the same ordinary tasks."""

from astray.data.code_pairs.pairs import CodePair, draw_code_pair, generate_code_pairs
from astray.data.code_pairs.weakness import weaknesses

__all__ = ["CodePair", "draw_code_pair", "generate_code_pairs", "weaknesses"]
