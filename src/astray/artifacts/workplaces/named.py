"""Places by the name and the settings that a person gives on the command line."""

import re

from astray.artifacts.workplaces.place import Where
from astray.artifacts.workplaces.ray import Ray
from astray.artifacts.workplaces.slurm import Slurm
from astray.errors import ConfigurationError, UnknownNameError

OF_PLACES = {"slurm": {"partition", "gpus", "time", "account", "memory"}, "ray": {"address", "gpus", "memory"}}
"""Place -> its settings."""
_MINUTES = {"m": 1, "h": 60, "d": 1440}


def named_place(
    on: str | None = None,
    *,
    partition: str | None = None,
    gpus: int | None = None,
    time: str | None = None,
    account: str | None = None,
    memory: float | None = None,
    address: str | None = None,
) -> Where | None:
    """Return the place of this name; None without a name, for this machine.

    Args:
        on: "slurm" or "ray".
        partition: of the Slurm cluster.
        gpus: GPUs of a step that runs a model; none by default.
        time: limit of a job, such as "4h".
        account: that Slurm charges.
        memory: GB of a job or task.
        address: of the Ray cluster.

    Raises:
        UnknownNameError: there is no such place.
        ConfigurationError: a setting is missing, is not of this place, or has no such value.
    """
    every = {
        "partition": partition,
        "gpus": gpus,
        "time": time,
        "account": account,
        "memory": memory,
        "address": address,
    }
    given = [name for name, value in every.items() if value is not None]
    if on is not None and on not in OF_PLACES:
        raise UnknownNameError("place to run on", on, OF_PLACES)
    for name in given:
        if name not in OF_PLACES.get(on or "", ()):
            places = " or ".join(f"--on {place}" for place, names in OF_PLACES.items() if name in names)
            raise ConfigurationError(f"--{name} is a setting of {places}. Write that as well, or leave --{name} out.")
    if on is None:
        return None
    if on == "ray":
        return Ray(address, float(gpus or 0), memory)
    if partition is None:
        raise ConfigurationError("--on slurm needs --partition NAME: `sinfo` lists the partitions of your cluster.")
    return Slurm(partition, gpus or 0, 240 if time is None else minutes_of(time), account or "", memory)


def minutes_of(text: str) -> int:
    """Return a time such as "90m", "4h" or "2d" in minutes.

    Raises:
        ConfigurationError: it is none.
    """
    match = re.fullmatch(r"(\d+)([mhd])", text)
    if match is None or not int(match[1]):
        raise ConfigurationError(f"--time {text!r} is no time limit. Write minutes, hours or days: 90m, 4h, 2d.")
    return int(match[1]) * _MINUTES[match[2]]
