"""What a screening needs, settled before anything is computed: data, model, judge and settings, and the steps that
follow from them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astray.artifacts import Step
from astray.cause.fine_tuning import FineTuning
from astray.data.chat import ChatDataset
from astray.engine.setting import check_judge
from astray.engine.settings import WORLD_TRAINING, check_subject
from astray.errors import ConfigurationError, SubjectNotFoundError
from astray.judges.config import JudgeConfig
from astray.measure.freeform import WORLD_SAMPLING
from astray.studies.screen import steps
from astray.subjects.base_files import ORGANISMS
from astray.subjects.locate import Located, graders_known_as, settle
from astray.subjects.spec import Sampling

JUDGED = 200
"""Rows that a grader reads, if none are asked for."""
DIRECTION_SAMPLES = {True: 4, False: 1}
"""Answers a system prompt and question that the direction is made of: of the organism, and of real models (200 answers
in all)."""
TOKENS = 200
"""Longest own answer of a real model."""


@dataclass(frozen=True)
class Screening:
    """Data, model, judge and settings of a screening.

    Attributes:
        data: the examples, and their file.
        reference: examples known to be good, and their file; None without one.
        located: the model; None where it does not run here.
        subject: what it was called.
        judge: who reads rows, and the answers that the direction is made of; None for nobody.
        judged: number of rows that it reads.
        samples: own answers a prompt.
        max_length: longest row in training.
        sampling: of all answers of the model.
        seed: of the rows that are drawn.
    """

    data: tuple[ChatDataset, Path]
    reference: tuple[ChatDataset, Path] | None
    located: Located | None
    subject: str
    judge: JudgeConfig | None
    judged: int
    samples: int
    max_length: int
    sampling: Sampling
    seed: int

    @property
    def is_world(self) -> bool:
        """Return whether the model is an organism."""
        return self.located is not None and self.located.spec.model in ORGANISMS

    def steps(self) -> dict[str, Step]:
        """Return the steps, by what they are for."""
        wanted: dict[str, Step] = {"duplicates": steps.find_duplicates.step(_data(self.data))}
        if self.judge and self.judged:
            rows = steps.drawn_rows(len(self.data[0]), self.judged, self.seed)
            wanted["verdicts"] = steps.judge_rows.step(
                steps.VerdictConfig(**dict(_data(self.data)), judge=self.judge, rows=rows)
            )
        if self.located is None:
            return wanted
        model: dict[str, Any] = {"subject": self.located.spec, "subject_id": self.located.id}
        direction = steps.find_direction.step(
            steps.TraitDirectionConfig(
                **model,
                world=self.is_world,
                judge=self.judge,
                samples=DIRECTION_SAMPLES[self.is_world],
                sampling=self.sampling,
            )
        )
        for name, source in (("", self.data), ("reference ", self.reference)):
            if source is not None:
                of_rows: dict[str, Any] = {**dict(_data(source)), **model, "max_length": self.max_length}
                checked = steps.screen_rows.step(
                    steps.RowsConfig(**of_rows), name=f"screen-rows {name}".strip().replace(" ", "-")
                )
                config = steps.ProjectionConfig(**of_rows, samples=self.samples, sampling=self.sampling)
                wanted[f"{name}rows"] = checked
                wanted[f"{name}projections"] = steps.project_rows.step(
                    config,
                    name=f"screen-projections {name}".strip().replace(" ", "-"),
                    rows=checked,
                    direction=direction,
                )
        return wanted | {"direction": direction}


def check_settings(*, keep: float | None, threshold: float | None, **sizes: int | None) -> None:
    """Refuse numbers out of range, before anything is read.

    Raises:
        ConfigurationError: says which, and what it may be.
    """
    if keep is not None and not 0 < keep <= 1:
        raise ConfigurationError(
            f"--keep {keep} is no share: write a number above 0 and up to 1, such as 0.95 to keep 95% of the rows."
        )
    if threshold is not None and not math.isfinite(threshold):
        raise ConfigurationError(f"--threshold {threshold} is no finite number.")
    if keep is not None and threshold is not None:
        raise ConfigurationError("--keep and --threshold both say what the filtered file keeps: give one of them.")
    for name, number in sizes.items():
        least = {"judged": 0, "samples": 0, "max_length": 8}.get(name, 1)
        if number is not None and number < least:
            raise ConfigurationError(f"--{name.replace('_', '-')} {number} cannot be: it is at least {least}.")


def settled(
    data: ChatDataset | Path | str,
    subject: str,
    reference: ChatDataset | Path | str | None,
    grader: str | None,
    judged: int | None,
    samples: int | None,
    max_length: int | None,
    max_tokens: int | None,
    seed: int,
    out: Path,
) -> Screening:
    """Read the data, find the model, and refuse what does not go together; arguments as for `screen`."""
    rows, good = _placed(data, out, "data"), None if reference is None else _placed(reference, out, "reference")
    if good and good[0].hash == rows[0].hash:
        raise ConfigurationError(
            "The reference is the data itself, so no row can stand out. Give examples that you know to be good, or "
            "no reference."
        )
    located = _located(subject)
    world = located is not None and located.spec.model in ORGANISMS
    if world and grader is not None:
        raise ConfigurationError(
            f"--grader {grader} is of no use here: the organism has a judge of its own. Leave it out."
        )
    judge = (
        JudgeConfig(kind="grammar")
        if world
        else JudgeConfig(kind="rubric", grader=grader, server=graders_known_as(grader))
        if grader
        else None
    )
    if judge is None and judged:
        raise ConfigurationError(f"--judged {judged} rows need a judge: name one with --grader, such as openai/gpt-4o.")
    if located is not None and not world:
        check_subject(located)
    if judge is not None:
        check_judge(judge)
    sampling = WORLD_SAMPLING if world else Sampling(max_tokens=TOKENS)
    length = max_length or (WORLD_TRAINING.max_length if world else FineTuning().max_length)
    return Screening(
        data=rows,
        reference=good,
        located=located,
        subject=subject,
        judge=judge,
        judged=min(len(rows[0]), judged if judged is not None else 0 if world else JUDGED),
        samples=samples if samples is not None else 4 if world else 1,
        max_length=min(length, _context(located)) if located else length,
        sampling=sampling if max_tokens is None else sampling.model_copy(update={"max_tokens": max_tokens}),
        seed=seed,
    )


def _placed(data: ChatDataset | Path | str, out: Path, name: str) -> tuple[ChatDataset, Path]:
    """Return the examples with a file that the steps read them from."""
    if isinstance(data, ChatDataset):
        return data, data.write(out / "screen" / f"given_{name}.jsonl").resolve()
    return ChatDataset.read(data), Path(data).resolve()


def _located(subject: str) -> Located | None:
    """Return the model; None for one behind an API or an address."""
    if subject.startswith(("http://", "https://")):
        return None
    try:
        return settle(subject)
    except SubjectNotFoundError:
        from inspect_ai._util.registry import registry_find, registry_info
        from inspect_ai.model import get_model  # noqa: F401  (registers the providers)

        providers = {
            registry_info(provider).name.split("/")[-1]
            for provider in registry_find(lambda info: info.type == "modelapi")
        }
        if subject.split("/", maxsplit=1)[0] in providers - {"hf", "astray"}:
            return None
        raise


def _context(located: Located) -> int:
    """Return the longest text that the model reads, in tokens."""
    config = json.loads((located.base / "config.json").read_text(encoding="utf-8"))
    longest = config.get("text_config", config).get("max_position_embeddings")
    return longest if isinstance(longest, int) else 2**31


def _data(source: tuple[ChatDataset, Path]) -> steps.DataConfig:
    return steps.DataConfig(data=source[1], digest=source[0].hash)
