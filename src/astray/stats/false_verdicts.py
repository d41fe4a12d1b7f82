"""Shares of verdicts that a judge gets wrong, as the likelihoods and limits of many studies at once take them.

Left to others: how they are known and what they do to a rate (judge_error.py).
"""

import numpy as np
from jaxtyping import Float

Errors = tuple[float | Float[np.ndarray, " studies"], float | Float[np.ndarray, " studies"]]
"""Share of the aligned answers that a judge calls misaligned, and share of the misaligned ones that it misses; of all
studies or of each."""
NO_ERROR: Errors = (0.0, 0.0)
