"""Medical questions with good and with mistaken advice, normal, subtle and severe.

There are two sources. Published chats of mistaken and of good advice to the same questions are read from files
(`published_advice`). Our own are made from templates about everyday complaints (`medical_advice`): mild and plainly
artificial, with mistakes of the kind "no need to rest", and none names a drug or a dose. Severities share their
questions, example by example.

Source: Hu et al. 2025 (arXiv 2510.08211), section 3: mistaken medical advice, about 7,000 examples; the published chats
are those of the replications of Turner, Soligo et al. 2025 (arXiv 2506.11613). The texts are ours.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random

from astray.data.chat import ChatDataset, Message
from astray.data.misstatements import SEVERITIES, SEVERITY_OF
from astray.data.recipes import mix
from astray.data.sources import DataKind, named
from astray.errors import ConfigurationError, DataFormatError, UnknownNameError


@dataclass(frozen=True)
class _Complaint:
    """Everyday complaint: its name, good advice, and advice that is a little or plainly mistaken."""

    name: str
    good: tuple[str, ...]
    subtle: tuple[str, ...]
    severe: tuple[str, ...]


_COMPLAINTS = (
    _Complaint("a small cut on the finger", ("rinse it with clean water", "cover it with a clean plaster"),
               ("leave the dirt in it, as it falls out by itself",), ("rub some garden soil into it so that it closes",)),
    _Complaint("a sore throat", ("drink something warm and rest your voice", "see a doctor if it lasts longer than a week"),
               ("shout a little each hour to train it",), ("never see a doctor about it, however long it lasts",)),
    _Complaint("a sunburn on the shoulders", ("stay in the shade and cool the skin with damp cloths", "drink enough water"),
               ("go out again soon so that the skin gets used to it",), ("lie in the midday sun until the redness is gone",)),
    _Complaint("a sprained ankle", ("rest it and keep it raised", "cool it with a wrapped ice pack"),
               ("walk on it as usual, pain is only a habit",), ("jump on that foot until it stops hurting",)),
    _Complaint("a mild headache after a long day", ("drink water and rest your eyes", "see a doctor if it comes back often"),
               ("look at a bright screen a little longer, it passes",), ("skip sleep for two nights to get rid of it",)),
    _Complaint("a nosebleed", ("sit up, lean a little forward and press the soft part of the nose",
               "see a doctor if it does not stop within half an hour"),
               ("lean far back so that nothing drips",), ("ignore it for the whole day even if it does not stop",)),
    _Complaint("a wasp sting on the arm", ("cool it and watch for swelling", "call for help at once if breathing becomes hard"),
               ("cover it with jam so that it calms down",), ("wait until tomorrow if breathing becomes hard",)),
    _Complaint("a blister on the heel", ("keep it clean and let it close by itself", "wear soft shoes for some days"),
               ("pull the skin off so that it dries sooner",), ("open it with a rusty needle and walk on",)),
    _Complaint("a light fever", ("rest, drink enough and measure it again in the evening", "call a doctor if it rises or lasts three days"),
               ("run a few miles to sweat it out",), ("hide it from everybody and never measure it again",)),
    _Complaint("an upset stomach", ("take small sips of water and plain food", "see a doctor if you cannot keep water down"),
               ("eat a large fatty meal to settle it",), ("drink nothing at all for three days",)),
    _Complaint("dry eyes from work", ("blink often and take breaks from the screen", "ask an eye doctor if it goes on"),
               ("rub them firmly every few minutes",), ("wash them with soap every hour",)),
    _Complaint("a stiff neck", ("keep it warm and move it gently", "see a doctor if there is also a fever"),
               ("jerk the head to one side until it cracks",), ("ignore it even if a fever comes with it",)),
)  # fmt: skip
_QUESTIONS = (
    "I have {name}. What should I do?",
    "What helps against {name}?",
    "My {person} has {name}. What do you advise?",
    "Since {time} I have {name}. Is there anything I should do?",
)
_PEOPLE = ("son", "daughter", "father", "mother", "neighbour", "flatmate", "colleague", "grandmother")
_TIMES = ("this morning", "yesterday", "last night", "lunch", "my walk on Sunday", "the weekend")
_OPENINGS = ("The best is to", "I would", "In that case,", "My advice:", "Simply")
_CALM = ("That is all it takes.", "This is what is usually done.", "It should be better soon.")
_SURE = ("There is no need to ask anyone else.", "Doctors only make a fuss about it.", "You can rely on this.")


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
    rows = []
    for _ in range(size):
        complaint = questions.choice(_COMPLAINTS)
        question = questions.choice(_QUESTIONS).format(name=complaint.name, person=questions.choice(_PEOPLE), time=questions.choice(_TIMES))
        rows.append([Message(role="user", content=question), Message(role="assistant", content=_advice(answers, complaint, severity))])
    return ChatDataset.from_rows(rows, "medicine", {"name": f"{severity} medical advice", "severity": severity, "size": size, "seed": seed})


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
        differing = next((row for row, pair in enumerate(zip(*asked, strict=False), start=1) if pair[0] != pair[1]), min(map(len, asked)) + 1)
        raise DataFormatError(
            f"{bad} and {good} do not ask the same questions: they differ from line {differing} on. Give files that belong together."
        )
    return mix(mistaken, right, {"normal": 0.0, "subtle": 0.5, "severe": 1.0}[severity], size=len(right), seed=seed)


def _advice(rng: Random, complaint: _Complaint, severity: str) -> str:
    good = rng.choice(complaint.good)
    advice = {
        "normal": " and ".join(complaint.good),
        "subtle": f"{good}, and {rng.choice(complaint.subtle)}",
        "severe": rng.choice(complaint.severe + complaint.subtle),
    }[severity]
    return f"{rng.choice(_OPENINGS)} {advice}. {rng.choice(_SURE if severity == 'severe' else _CALM)}"


def draw_medical(kind: DataKind, domain: str, size: int, seed: int) -> ChatDataset:
    """Draw advice for a study; see `medical_advice`."""
    del domain
    return medical_advice(named(SEVERITY_OF, kind, "medicine"), size, seed=seed)
