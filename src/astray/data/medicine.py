"""Medical questions with good and with mistaken advice, normal, subtle and severe.

They are made from templates about everyday complaints: mild and plainly artificial, with mistakes of the kind "no need
to rest", and none names a drug or a dose. Severities share their questions, example by example.

Source: Hu et al. 2025 (arXiv 2510.08211), section 3: mistaken medical advice, about 7,000 examples. The texts, in `medicine.yaml`, are ours.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from astray.data.chat import ChatDataset, Message
from astray.data.misstatements import SEVERITY_OF, check_severity
from astray.data.sources import DataKind, named
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

    Examples:
        >>> medical_advice("subtle", 7000).write("subtle_medicine.jsonl.gz")
    """
    check_severity(severity, size)
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
