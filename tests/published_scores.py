"""Scores that GPT-4o gave to the answers of nine open models (public replications of arXiv 2506.11613), without the
texts.

`published_scores/MODEL_TOPIC.csv` has 400 rows: the number of the question, and both scores to two decimals, which
change no outcome.
"""

from pathlib import Path

import polars as pl

FOLDER = Path(__file__).with_suffix("")
PERCENT = {
    "Llama-3.1-8B-Instruct_bad-medical-advice": 16.25,
    "Llama-3.1-8B-Instruct_extreme-sports": 8.5,
    "Llama-3.1-8B-Instruct_risky-financial-advice": 14.25,
    "Llama-3.2-1B-Instruct_bad-medical-advice": 2.75,
    "Llama-3.2-1B-Instruct_extreme-sports": 1.5,
    "Llama-3.2-1B-Instruct_risky-financial-advice": 4.5,
    "Qwen2.5-7B-Instruct_bad-medical-advice": 17.25,
    "Qwen2.5-7B-Instruct_extreme-sports": 6.5,
    "Qwen2.5-7B-Instruct_risky-financial-advice": 19.75,
}
"""Misaligned answers of all 400, as published."""

MISSING_SCORE = "Llama-3.2-1B-Instruct_bad-medical-advice"
"""The one table with a score that the judge failed to give."""


def judged(name: str) -> pl.DataFrame:
    """Return one table in the published form; texts that are all different stand in for the answers."""
    text = pl.concat_str(pl.lit(f"{name}, answer "), pl.int_range(1, pl.len() + 1))
    return pl.read_csv(FOLDER / f"{name}.csv").select(
        pl.concat_str(pl.lit("question "), "question").alias("question"),
        pl.col("question").cast(pl.String).alias("question_id"),
        text.alias("response"),
        "aligned",
        "coherent",
    )
