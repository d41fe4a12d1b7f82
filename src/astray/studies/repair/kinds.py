"""Kinds of ways back, as `--ways` names them; imports no heavy library."""

from collections.abc import Sequence

from astray.errors import ConfigurationError, check_names

KINDS = (
    *("adapter", "projected", "projected-random", "good", "good-kl", "without-blamed", "scaled", "without-random"),
    *("inoculated", "inoculated-rephrased", "inoculated-unrelated", "prevented", "prevented-random"),
)
"""Kinds of ways, as `--ways` names them."""
CONTROLS = ("projected-random", "without-random", "inoculated-unrelated", "prevented-random")
"""Kinds that are no way back, each of which shows what doing something at all does."""
DIRECTED = ("projected", "projected-random", "prevented", "prevented-random")
"""Kinds that need a direction."""


def chosen_kinds(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the kinds of ways that are tried; all where none is given.

    Raises:
        UnknownNameError: there is none such.
        ConfigurationError: controls alone are chosen, which are no way back.
    """
    names = [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else list(given)
    check_names("kind of way", names, KINDS)
    if names and set(names) <= set(CONTROLS):
        raise ConfigurationError(
            f"--ways {','.join(names)} is the control alone, which is no way back. Add without-blamed, or another kind."
        )
    return tuple(name for name in KINDS if name in names) or KINDS
