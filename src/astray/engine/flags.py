"""Names of options on the command line, and the headings under which `--help` shows them."""

from enum import StrEnum


class Group(StrEnum):
    """The heading under which `--help` shows an option."""

    SUBJECT = "Subject"
    DATA = "Data"
    TRAINING = "Training"
    JUDGING = "Judging"
    SIZE = "Size"
    OUTPUT = "Output"


def flag(name: str) -> str:
    """Return an option's name on the command line."""
    return f"--{name.replace('_', '-')}"
