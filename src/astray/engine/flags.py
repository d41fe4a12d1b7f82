"""Names of options as they are typed, and the headings under which `--help` shows them."""

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
    """Return an option's name as it is typed."""
    return f"--{name.replace('_', '-')}"
