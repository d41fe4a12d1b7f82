"""Distil a judge from answers that a paid judge has scored, and use it offline."""

from typing import TYPE_CHECKING

from astray.first_use import on_first_use

if TYPE_CHECKING:
    from astray.distil.make import distil
    from astray.distil.report import Distilled

__all__ = ["Distilled", "distil"]

__getattr__ = on_first_use(__name__, __file__)
