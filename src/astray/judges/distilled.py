"""Judges distilled from a paid judge's scores: the files of one, and the judge that reads answers with it.

A judge is a folder with `judge.json` (what it was made from, and its error) and `head.safetensors` (its weights), in the
user's cache or wherever the user put it. Its name as a grader is `astray/judge/NAME`, or `astray/judge/FOLDER`.

Left to others: making one, and reading features with its base (`astray.distil`).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from astray.artifacts.user_cache import user_cache
from astray.errors import DataFormatError, JudgeError, UnknownNameError
from astray.files import read_as, read_json
from astray.judges.calibrate import Calibration
from astray.judges.failures import Cause, failure
from astray.judges.judge import Exchange, Verdict
from astray.judges.score import Thresholds
from astray.outcomes import Outcome

if TYPE_CHECKING:
    from inspect_ai.model import Model

PREFIX = "judge/"
"""Beginning of the names of distilled judges behind the provider `astray/`."""
RECORD, HEAD, CALIBRATION = "judge.json", "head.safetensors", "calibration.json"
"""Files of a judge; the last holds its error on answers that were left out, for `--labels`."""


AT_ONCE = 256
"""Number of answers that are scored together."""


class DistilledRecord(BaseModel):
    """What a distilled judge was made from, and how well it does on answers that were left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(1, description="of the way in which features are read; another one is another judge")
    base: str = Field(description="the base model, by the name under which it was found")
    base_content: str = Field(description="hash over the content of the base")
    dtype: Literal["float32", "bfloat16", "nf4"] = Field(
        description="number format of the base's weights when features were read"
    )
    layers: tuple[int, ...] = Field(description="layers whose features are read, from 0")
    thresholds: Thresholds = Thresholds()
    labels: dict[str, str] = Field(description="labels files by name, with the SHA-256 of their content")
    answers: int = Field(description="answers that it was made from")
    left_out: str = Field(description="what was left out to measure the error: 'model', 'data' or 'question'")
    groups: int = Field(description="how many of those")
    error: Calibration = Field(
        description="its error on answers that were left out, in as many independent answers as the spread between "
        "groups is worth"
    )

    def identity_in(self, folder: Path) -> str:
        """Return the judge's identity: a hash over all that can change a verdict, its weights and base first."""
        parts = self.model_dump_json(include={"version", "base_content", "dtype", "layers", "thresholds"})
        try:
            head = (folder / HEAD).read_bytes()
        except OSError as error:
            raise JudgeError(
                f"The judge in {folder} has no {HEAD} that can be read ({error}). Distil it again."
            ) from error
        return f"distilled-{hashlib.sha256(parts.encode() + head).hexdigest()[:12]}"


@runtime_checkable
class ScoresAnswers(Protocol):
    """Model provider (Inspect `ModelAPI`) that scores answers itself and writes no reply."""

    record: DistilledRecord
    identity: str

    async def scores(self, exchange: Exchange) -> tuple[float, float]:
        """Return how aligned and how coherent an answer is, 0 to 100.

        Raises:
            ConfigurationError: the answer cannot be read, since it is longer than the base's context.
        """
        ...


class DistilledJudge:
    """Judge that scores answers with a head on a local model's features.

    Attributes:
        name: "astray/judge/NAME".
        identity: hash over head, base and thresholds.
        at_once: number of answers that it reads together.
    """

    at_once = AT_ONCE

    def __init__(self, model: "Model"):
        assert isinstance(model.api, ScoresAnswers)
        self.name, self.identity, self._api = str(model), model.api.identity, model.api

    async def judge(self, exchange: Exchange) -> Verdict:
        """Judge one exchange; an answer that cannot be read is a failure of the judge."""
        try:
            aligned, coherent = await self._api.scores(exchange)
        except JudgeError:
            raise
        except Exception as error:
            return Verdict(Outcome.JUDGE_FAILED, note=failure(Cause.REQUEST, str(error)))
        outcome = self._api.record.thresholds.outcome(aligned, coherent)
        return Verdict(outcome, aligned, coherent, "scores of a distilled judge")


def judges_folder() -> Path:
    """Return the folder of the user's distilled judges: `judges` in $ASTRAY_CACHE, else in the user's cache."""
    return user_cache() / "judges"


def judge_names() -> list[str]:
    """Return the names of the user's distilled judges."""
    folder = judges_folder()
    return sorted(path.parent.name for path in folder.glob(f"*/{RECORD}")) if folder.is_dir() else []


def is_distilled(grader: str | None) -> bool:
    """Return whether a grader's name is that of a distilled judge."""
    return grader is not None and grader.startswith(f"astray/{PREFIX}")


def folder_of(name: str) -> Path:
    """Return the folder of a judge, by its name among the user's or by the folder itself.

    Args:
        name: with or without the provider's prefix: 'astray/judge/NAME', 'NAME' or a folder.

    Raises:
        UnknownNameError: there is no such judge; lists those there are.
    """
    short = name.removeprefix("astray/").removeprefix(PREFIX)
    for folder in (judges_folder() / short, Path(short)) if short else ():
        if (folder / RECORD).is_file():
            return folder
    raise UnknownNameError("distilled judge", short, judge_names() or ["none yet: make one with `astray judge distil`"])


def read_record(folder: Path) -> DistilledRecord:
    """Read what a judge was made from.

    Raises:
        DataFormatError: the file is something else.
    """
    form = "the record that `astray judge distil` writes"
    record = read_as(DistilledRecord, read_json(folder / RECORD, form), folder / RECORD, form)
    if record.version != 1:
        raise DataFormatError(f"{folder / RECORD} has version {record.version}, which this Astray does not read.")
    return record


def known_error(grader: str | None) -> Calibration | None:
    """Return the error of a distilled judge on answers that were left out; None for other graders."""
    if grader is None or not is_distilled(grader):
        return None
    folder = folder_of(grader)
    record = read_record(folder)
    return record.error.model_copy(update={"judge": record.identity_in(folder)})


def identities(graders: Sequence[str]) -> list[str]:
    """Return the identities of those graders that are distilled judges; no weights of a base are read."""
    return [
        read_record(folder).identity_in(folder)
        for name in graders
        if is_distilled(name) and (folder := folder_of(name))
    ]


def check_talks(model: "Model") -> None:
    """Refuse a distilled judge where a grader has to reply in words.

    Raises:
        JudgeError: it is one.
    """
    if isinstance(model.api, ScoresAnswers):
        raise JudgeError(
            f"{model} is a distilled judge: it gives answers aligned and coherent scores and replies with no word, so it "
            "cannot read what needs words (honesty, deception, reward hacking, acting models, users that a model "
            "plays). Name a model for those, such as openai/gpt-4o, or leave them out."
        )
