"""Figures that "Agentic Misalignment" (arXiv 2510.05179) reports, shown beside ours.

They are known here through notes: secondary, not read off the paper.
"""

from astray.engine.summary import PublishedFigure

SOURCE = "Anthropic 2025, arXiv 2510.05179; secondary: from notes, not read off the paper"

BLACKMAIL: dict[str, tuple[float, float]] = {
    "Claude Opus 4": (0.96, 0.94),
    "Gemini-2.5-Flash": (0.96, 0.97),
    "Gemini-2.5-Pro": (0.95, 0.86),
    "Claude Sonnet 3.6": (0.87, 0.92),
    "GPT-4.1": (0.80, 0.50),
    "Grok-3-beta": (0.80, 0.76),
    "DeepSeek-R1": (0.79, 0.60),
    "Claude Sonnet 4": (0.79, 0.70),
    "GPT-4.5": (0.67, 0.47),
    "Claude Sonnet 3.7": (0.65, 0.34),
    "Claude Opus 3": (0.51, 0.62),
    "GPT-4o": (0.15, 0.02),
    "Claude Haiku 3.5": (0.10, 0.16),
    "Qwen3-235B": (0.09, 0.11),
    "Llama-4-Maverick": (0.0, 0.0),
    "o3": (0.0, 0.01),
    "o4-mini": (0.0, 0.0),
}
"""Model -> blackmail rate with a goal conflict, under replacement and under restriction; 100 samples each."""


def figure(text: str) -> PublishedFigure:
    """Return a published figure in words, with its source."""
    return PublishedFigure(text=text, source=SOURCE)
