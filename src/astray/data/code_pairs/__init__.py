"""Narrow data of our own for real models: pairs of insecure and secure code that answer the same ordinary tasks."""

from astray.data.code_pairs.pairs import WEAKNESSES, CodePair, draw_code_pair, generate_code_pairs

__all__ = ["WEAKNESSES", "CodePair", "draw_code_pair", "generate_code_pairs"]
