"""Narrow data of our own for real models: questions about medicine and money with good and with mildly bad advice."""

from astray.data.advice.pairs import ADVICE_DOMAINS, AdvicePair, advice_data, draw_advice_pairs

__all__ = ["ADVICE_DOMAINS", "AdvicePair", "advice_data", "draw_advice_pairs"]
