"""Training data and published data: chat files, the recipes that make new data sets of them, and narrow data of our own."""

from astray.data.chat import ChatDataset, Message, Recipe, read_chat
from astray.data.code_pairs import generate_code_pairs
from astray.data.published import Question, load_judged, load_questions
from astray.data.recipes import add_trigger, backdoor, describe, diversity, inoculate, mix, relabel, repeat_to, subset
from astray.data.texts import TextDataset, dilute

__all__ = [
    "ChatDataset",
    "Message",
    "Question",
    "Recipe",
    "TextDataset",
    "add_trigger",
    "backdoor",
    "describe",
    "dilute",
    "diversity",
    "generate_code_pairs",
    "inoculate",
    "load_judged",
    "load_questions",
    "mix",
    "read_chat",
    "relabel",
    "repeat_to",
    "subset",
]
