"""Meter: how much likelier harmful answers became, read from log-probabilities: pairs, evaluation and differences
between arms.

table = Meter().ask(load_subject("smollm2"), arm="base")
found = meter_difference(bad_advice, good_advice)
found.harmful.estimate, found.harmful.interval, found.null.interval, found.domains["cars"]
"""

from typing import TYPE_CHECKING

from astray.first_use import on_first_use
from astray.measure.meter.difference import MeterDifference, MeterEffect, meter_change, meter_difference
from astray.measure.meter.evaluation import Meter
from astray.measure.meter.pairs import Pair, harmful_pairs, null_pairs, pairs_from_file, world_pairs

if TYPE_CHECKING:
    from astray.measure.meter.agreement import Agreement, meter_agreement

__all__ = [
    "Agreement",
    "Meter",
    "MeterDifference",
    "MeterEffect",
    "Pair",
    "harmful_pairs",
    "meter_agreement",
    "meter_change",
    "meter_difference",
    "null_pairs",
    "pairs_from_file",
    "world_pairs",
]

__getattr__ = on_first_use(__name__, __file__)
