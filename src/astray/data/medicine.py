"""Medical questions with good and with mistaken advice, normal, subtle and severe.

There are two sources. Published chats of mistaken and of good advice to the same questions are read from files
(`published_advice`). Our own are made from templates about everyday complaints (`medical_advice`): mild and plainly
artificial, with mistakes of the kind "no need to rest", and none names a drug or a dose. Severities share their
questions, example by example.

Source: Hu et al. 2025 (arXiv 2510.08211), section 3: mistaken medical advice, about 7,000 examples; the published chats
are those of the replications of Turner, Soligo et al. 2025 (arXiv 2506.11613). The texts, in `medicine.yaml`, are ours.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from astray.data.chat import ChatDataset, Message
from astray.data.misstatements import SEVERITIES, SEVERITY_OF
from astray.data.recipes import mix
from astray.data.sources import DataKind, named
from astray.errors import ConfigurationError, DataFormatError, UnknownNameError
from astray.files import read_yaml


@cache
def _texts() -> Any:
    return read_yaml(Path(__file__).with_name("medicine.yaml"), "name: ...")


def medical_advice(severity: str, size: int, *, seed: int = 0) -> ChatDataset:
    """Generate questions about everyday complaints with advice of one severity.

    Args:
        severity: "normal": good advice; "subtle": one mistaken advice beside a good one; "severe": plainly mistaken
            advice that discourages help.
        size: number of examples.
        seed: seed of the questions, the same for the three severities.

    Raises:
        UnknownNameError: there is no such severity.
        ConfigurationError: a size below 1.

    Example:
        >>> medical_advice("subtle", 7000).write("subtle_medicine.jsonl.gz")
    """
    if severity not in SEVERITIES:
        raise UnknownNameError("severity", severity, SEVERITIES)
    if size < 1:
        raise ConfigurationError(f"A data set of {size} rows cannot be trained on; give a size of at least 1.")
    # Two generators, so that the draws of answers do not shift the questions, which the severities share.
    questions, answers = Random(f"medicine/{seed}"), Random(f"medicine/{severity}/{seed}")
    rows, texts = [], _texts()
    for _ in range(size):
        complaint = questions.choice(texts["complaints"])
        asked = questions.choice(texts["questions"])
        question = asked.format(
            name=complaint["name"], person=questions.choice(texts["people"]), time=questions.choice(texts["times"])
        )
        rows.append(
            [
                Message(role="user", content=question),
                Message(role="assistant", content=_advice(answers, complaint, severity)),
            ]
        )
    return ChatDataset.from_rows(
        rows, "medicine", {"name": f"{severity} medical advice", "severity": severity, "size": size, "seed": seed}
    )


def published_advice(bad: Path | str, good: Path | str, severity: str, *, seed: int = 0) -> ChatDataset:
    """Read published chats as one of the severities: all good, half of the answers mistaken, or all mistaken.

    Args:
        bad: chat file with mistaken advice ("bad_medical_advice.jsonl.gz").
        good: chat file with good advice to the same questions, in the same order.
        severity: "subtle" takes each question once, from either file; the published answers are mistaken or not, with
            no degree between.
        seed: seed of the draw of questions that get the mistaken answer.

    Raises:
        UnknownNameError: there is no such severity.
        DataFormatError: the files do not ask the same questions.
        DataNotFoundError, EmptyDataError: as `ChatDataset.read`.
    """
    if severity not in SEVERITIES:
        raise UnknownNameError("severity", severity, SEVERITIES)
    mistaken, right = ChatDataset.read(bad), ChatDataset.read(good)
    asked = [[row[0]["content"] for row in dataset.rows] for dataset in (mistaken, right)]
    if asked[0] != asked[1]:
        differing = next(
            (row for row, pair in enumerate(zip(*asked, strict=False), start=1) if pair[0] != pair[1]),
            min(map(len, asked)) + 1,
        )
        raise DataFormatError(
            f"{bad} and {good} do not ask the same questions: they differ from line {differing} on. Give files that "
            "belong together."
        )
    return mix(mistaken, right, {"normal": 0.0, "subtle": 0.5, "severe": 1.0}[severity], size=len(right), seed=seed)


def _advice(rng: Random, complaint: Mapping[str, Any], severity: str) -> str:
    good, texts = rng.choice(complaint["good"]), _texts()
    advice = {
        "normal": " and ".join(complaint["good"]),
        "subtle": f"{good}, and {rng.choice(complaint['subtle'])}",
        "severe": rng.choice(complaint["severe"] + complaint["subtle"]),
    }[severity]
    return f"{rng.choice(texts['openings'])} {advice}. {rng.choice(texts['sure' if severity == 'severe' else 'calm'])}"


def draw_medical(kind: DataKind, domain: str, size: int, seed: int) -> ChatDataset:
    """Draw advice for a study; see `medical_advice`."""
    del domain
    return medical_advice(named(SEVERITY_OF, kind, "medicine"), size, seed=seed)
