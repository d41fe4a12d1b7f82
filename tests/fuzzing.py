"""How many inputs a property is tried with: few and always the same in the tests, many and new ones in `make fuzz`."""

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("ASTRAY_FUZZ", "1"))
"""How many times as many inputs as in the tests are tried."""


def tried(examples: int) -> settings:
    """Settings with so many inputs in the tests; decorates a property."""
    return settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=TIMES > 1,
    )
