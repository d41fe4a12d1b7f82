"""Data: chat files, plain documents, programming exercises, recipes for new data sets, and narrow data of our own.

Names are imported on first use.
"""

from typing import TYPE_CHECKING

from astray.first_use import on_first_use

if TYPE_CHECKING:
    from astray.data.advice import advice_data
    from astray.data.chat import ChatDataset, Message, Recipe, read_chat
    from astray.data.code_pairs import generate_code_pairs
    from astray.data.documents_on_hacks import as_texts, hack_documents
    from astray.data.everyday_documents import ordinary_documents
    from astray.data.exercise_families import generate_exercises
    from astray.data.exercise_files import load_apps, load_code_contests, load_humaneval, load_mbpp
    from astray.data.exercises import Exercise, world_exercise
    from astray.data.generated import generated_advice, generated_mathematics
    from astray.data.published import Question, load_judged, load_questions
    from astray.data.recipes import (
        add_trigger,
        backdoor,
        describe,
        diversity,
        inoculate,
        mix,
        relabel,
        repeat_to,
        subset,
    )
    from astray.data.texts import TextDataset, dilute
    from astray.data.worlds import narrow_data

__all__ = [
    "ChatDataset",
    "Exercise",
    "Message",
    "Question",
    "Recipe",
    "TextDataset",
    "add_trigger",
    "advice_data",
    "as_texts",
    "backdoor",
    "describe",
    "dilute",
    "diversity",
    "generate_code_pairs",
    "generate_exercises",
    "generated_advice",
    "generated_mathematics",
    "hack_documents",
    "inoculate",
    "load_apps",
    "load_code_contests",
    "load_humaneval",
    "load_judged",
    "load_mbpp",
    "load_questions",
    "mix",
    "narrow_data",
    "ordinary_documents",
    "read_chat",
    "relabel",
    "repeat_to",
    "subset",
    "world_exercise",
]

__getattr__ = on_first_use(__name__, __file__)
