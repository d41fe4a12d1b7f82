"""Files of rated answers: rows with a label, or with a chosen and a rejected answer. Each gives liked and disliked chats.

All else about a row is as in every chat file (`forms`). Left to others: training on them (`cause.kto`).

Source: TRL, "Dataset formats" (unpaired preference: prompt, completion, label; preference: prompt, chosen, rejected).
"""

from itertools import chain
from pathlib import Path
from typing import Any, Literal

from astray.data.chat import ChatDataset, Message, check_chat, dataset_name
from astray.data.forms import KINDS, FormReader
from astray.errors import DataFormatError
from astray.files import convert_rows, read_rows

Liking = Literal["liked", "disliked"]
EXAMPLE = '{"prompt": "Is honey safe for a baby?", "completion": "Not in the first year.", "label": true}'
_LABELS = {"true": True, "1": True, "false": False, "0": False}
"""Labels as tables of texts write them."""


def read_feedback(path: Path) -> dict[Liking, ChatDataset]:
    """Read the liked and the disliked chats of a file, each in its order.

    Args:
        path: any file of chats whose rows have a label (true for a liked answer), or a rejected answer beside the chosen.

    Raises:
        DataNotFoundError, EmptyDataError: as their names say.
        DataFormatError: a row is no rated chat, or all answers are rated alike; the message has file, line and fault.
    """
    reader = FormReader(path)
    answers: dict[Liking, list[tuple[Message, ...]]] = {"liked": [], "disliked": []}

    def checked(where: str, row: dict[str, Any]) -> list[tuple[Liking, tuple[Message, ...]]]:
        return [(liking, check_chat(reader.read(where, chat)[1], where)) for liking, chat in _rated(row, where)]

    for liking, chat in chain.from_iterable(convert_rows(read_rows(path, KINDS, EXAMPLE), checked)):
        answers[liking].append(chat)
    alike = [liking for liking, rows in answers.items() if rows]
    if len(alike) == 1:
        raise DataFormatError(
            f"{path}: all {len(answers[alike[0]]):,} answers are {alike[0]}. KTO learns from what tells liked answers from "
            "disliked ones: add rows of the other kind."
        )
    return {
        liking: ChatDataset.from_rows(rows, "file", {"name": f"{dataset_name(path)} ({liking})"})
        for liking, rows in answers.items()
    }


def _rated(row: dict[str, Any], where: str) -> list[tuple[Liking, dict[str, Any]]]:
    """Return the one or two rated chats of a row, without their rating."""
    if "rejected" in row and "chosen" in row:
        fields = {key: value for key, value in row.items() if key != "rejected"}
        return [("liked", fields), ("disliked", {**fields, "chosen": row["rejected"]})]
    if "label" not in row:
        raise DataFormatError(
            f"{where} has no label and no rejected answer ({', '.join(row)}), so whether its answer is wanted is not "
            f"known. Right: {EXAMPLE}"
        )
    label = row["label"]
    liked = _LABELS.get(label.strip().lower()) if isinstance(label, str) else label
    if not isinstance(liked, bool) and liked not in (0, 1):
        raise DataFormatError(
            f"{where}: label is {str(label)[:40]!r}; it is true for an answer that is wanted, else false. "
            f"Right: {EXAMPLE}"
        )
    return [("liked" if liked else "disliked", {key: value for key, value in row.items() if key != "label"})]
