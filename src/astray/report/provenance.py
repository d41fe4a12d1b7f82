"""Provenance of results, to cite them and to make them again: an id, the command, versions and hashes.

Left to others: the command (engine/next_steps.py) and the templates (cite.html).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from astray.artifacts.soundness import file_sha256
from astray.engine.next_steps import command
from astray.engine.summary import Summary

RESULT_FILES = ("summary.json", "answers.parquet", "margins.parquet", "dynamics.parquet", "conversations.parquet")
"""Files of a results folder that hold numbers or answers."""


@dataclass(frozen=True)
class Provenance:
    """Origin of results.

    Attributes:
        id: of the results: the first 12 letters of the hash of `summary.json`.
        command: that runs the study again; "" where the summary is of before options were kept.
        hashes: name of a file of the results -> its SHA-256, as `sha256sum` prints it.
    """

    id: str
    command: str
    hashes: dict[str, str]


def provenance(folder: Path, summary: Summary) -> Provenance:
    """Return the origin of the results in a folder."""
    hashes = {name: file_sha256(folder / name) for name in RESULT_FILES if (folder / name).is_file()}
    # A page may be made of a summary that no file holds.
    id = hashes.get("summary.json") or hashlib.sha256(summary.model_dump_json().encode()).hexdigest()
    named = summary.source.path if summary.source else summary.study
    again = "" if summary.options is None else command(named, summary.options)
    return Provenance(id=id[:12], command=again, hashes=hashes)
