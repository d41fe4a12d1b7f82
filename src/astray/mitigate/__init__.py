"""Mitigate: methods that prevent or repair misalignment.

Names are imported on first use: the modules load torch and TRL, the package itself loads nothing.
"""

from typing import TYPE_CHECKING

from astray.first_use import on_first_use

if TYPE_CHECKING:
    from astray.mitigate.call_monitor import activation_monitor, labelled_calls
    from astray.mitigate.call_probe import assess, fitted_probe
    from astray.mitigate.inoculation import inoculate
    from astray.mitigate.realignment import realign
    from astray.mitigate.rollout_screen import screen_rollouts

__all__ = [
    "activation_monitor",
    "assess",
    "fitted_probe",
    "inoculate",
    "labelled_calls",
    "realign",
    "screen_rollouts",
]

__getattr__ = on_first_use(__name__, __file__)
