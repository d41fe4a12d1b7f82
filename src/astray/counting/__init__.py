"""Rates and differences of what other tools have judged: Inspect logs of any task, judged tables, samples of
lm-evaluation-harness.

What was judged elsewhere is counted as Astray counts its own answers: with an interval, its unit of inference, every
outcome, and the judge's error where labels tell it. Nothing is guessed that could change a number; an error names the
option that says it.
"""

from astray.counting.count import count_files
from astray.counting.counted import Counted
from astray.counting.results import CountedDifference, CountedRate
from astray.counting.rules import Rule
from astray.counting.scored import Choices

__all__ = ["Choices", "Counted", "CountedDifference", "CountedRate", "Rule", "count_files"]
