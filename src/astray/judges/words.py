"""Graders that reply with one of a few agreed words; finding a grader, and its part of a judge's identity.

A new judge of this kind is a question and its words. Quoting is in quoting.py, asking in grader.py, reading in
replies.py, scores in score.py.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from inspect_ai.model import GenerateConfig, Model, get_model, model_roles

from astray.errors import DataFormatError, JudgeError, UnknownNameError
from astray.judges.distilled import check_talks
from astray.judges.failures import Cause, failure
from astray.judges.grader import GraderSettings, ask_grader
from astray.judges.metering import metered
from astray.judges.replies import read_word
from astray.judges.served import identity_parts
from astray.judges.told_errors import watched
from astray.judges.weights import content_of, folders_of

VERSION = 2
"""Version in the identity of every judge that asks a grader; a change of quoting or reading raises it."""

ROLES = ("grader", "grader_b")
"""Model roles of judges: the first, and that of a second opinion."""

SETTINGS = GraderSettings(max_tokens=32, top_logprobs=None)
"""Default settings of a grader's calls: one word is read from the text, no probabilities are needed."""

_REPLY_SHAPING = (
    "system_message",
    "seed",
    "top_p",
    "top_k",
    "logit_bias",
    "frequency_penalty",
    "presence_penalty",
    "reasoning_effort",
    "extra_body",
    "stop_seqs",
    "effort",
    "verbosity",
    "reasoning_mode",
    "reasoning_tokens",
    "response_schema",
    "fallback_models",
    "best_of",
    "internal_tools",
)


async def ask_whole(model: Model, prompt: str, config: GenerateConfig) -> tuple[str, str]:
    """Ask a grader whose reply counts only where it is whole: what was cut off may have gone on to say something else.

    Never raises for a grader that fails.

    Returns:
        The whole reply and "", or "" and why there is none.
    """
    reply = await ask_grader(model, prompt, config)
    if reply.cut_off:
        return "", failure(Cause.CUT_OFF, f"the reply was cut off: {reply.text[:80]!r}")
    return reply.text, reply.note


class WordGrader:
    """Grader that replies with one of a few words.

    Args:
        grader: an Inspect model or its name; None takes the model with the role `grader`.
        settings: settings of its calls.

    Raises:
        JudgeError: the grader cannot be used.
    """

    def __init__(self, grader: str | Model | None = None, settings: GraderSettings | None = None) -> None:
        self.model: Model = find_grader(grader)
        self.settings = settings or SETTINGS

    def identity(self, kind: str, task: str) -> str:
        """Return a hash over everything that can change a reading."""
        settings = self.settings.model_dump(mode="json", include={"temperature", "max_tokens"})
        return f"{kind}-{digest({'task': task, 'grader': grader_parts(self.model), 'settings': settings})}"

    async def ask(self, prompt: str, words: Sequence[str]) -> tuple[str, str]:
        """Ask for one of the agreed words.

        Never raises for a failing grader.

        Returns:
            The agreed word that is the whole reply and "", or "" and why there is none.
        """
        reply, note = await self.say(prompt)
        word = read_word(reply, words)
        return word, "" if word else note or unread(reply)

    async def say(self, prompt: str) -> tuple[str, str]:
        """Ask for a reply of any form.

        Never raises for a failing grader.

        Returns:
            The whole reply and "", or "" and why there is none.
        """
        return await ask_whole(self.model, prompt, self.settings.generate_config())


class WordJudge:
    """Judge that asks a `WordGrader`.

    Args:
        grader: an Inspect model or its name; None takes the model with the role `grader`.
        settings: how it is called.

    Attributes:
        kind: of its verdicts, for its identity.
        does: what it does, for its name.
        asked: all words that it is asked with.
        name: "openai/gpt-4o reads stances".
        identity: hash over what it is asked, the grader and its settings.

    Raises:
        JudgeError: the grader cannot be used.
    """

    kind: ClassVar[str]
    does: ClassVar[str]
    asked: ClassVar[str]

    def __init__(self, grader: str | Model | None = None, settings: GraderSettings | None = None) -> None:
        self._grader = WordGrader(grader, settings)
        self.name = f"{self._grader.model} {self.does}"
        self.identity = self._grader.identity(self.kind, self.asked)


def unread(reply: str) -> str:
    """Return the note of a reply that is none of the agreed ones."""
    return failure(Cause.UNREADABLE, f"the reply is none of the agreed words or numbers: {reply[:80]!r}")


def find_grader(grader: str | Model | None, *, scoring: bool = False) -> Model:
    """Return the Inspect model for a grader's name, or for None the model with the role `grader`.

    Args:
        grader: the name.
        scoring: whether a distilled judge will do, which gives scores and writes no reply.

    Raises:
        JudgeError: it cannot be used.
    """
    model = watched(_found(grader))
    if not scoring:
        check_talks(model)
    return model


def _found(grader: str | Model | None) -> Model:
    try:
        return metered(
            grader
            if isinstance(grader, Model)
            else get_model(grader)
            if grader is not None
            else get_model(role=ROLES[0], required=True)
        )
    except (UnknownNameError, DataFormatError):  # a distilled judge that is not there, or is damaged, is told as it is
        raise
    except Exception as error:
        if served := re.fullmatch(r"(https?://[^#]+)#?(.*)", str(grader)):
            raise JudgeError(
                f"The grader {grader!r} is an address, and a grader is named by its provider. Write --grader "
                f"openai-api/server/{served[2] or 'MODEL'}, and set SERVER_BASE_URL={served[1]} and SERVER_API_KEY (any "
                "text, if it needs no key)."
            ) from error
        given = f"The grader {grader!r}" if grader is not None else f"A model with the role {ROLES[0]!r}"
        reason = re.sub(r"\[/?[a-z ]+\]", "", str(error)).strip().rstrip(".")  # without rich's markup for a terminal
        raise JudgeError(
            f"{given} cannot be used: {reason}. Write an Inspect model name with its provider, such as "
            "'openai/gpt-4o', and set the provider's key (OPENAI_API_KEY); within an Inspect evaluation give "
            "`--model-role grader=openai/gpt-4o`."
        ) from error


def graders_from_roles() -> list[Model]:
    """Return the models with the roles of judges, in their order; none where the first role is not given.

    A second opinion alone is no panel.
    """
    given = model_roles()
    graders = [get_model(role=role) for role in ROLES if role in given] if ROLES[0] in given else []
    for model in graders:
        check_talks(model)
    return graders


def grader_parts(model: Model) -> dict[str, Any]:
    """Return the properties that distinguish one grader from another, for a judge's identity.

    A grader that runs here is known by the content of its weights and tokenizer, wherever they lie.

    Raises:
        JudgeError: it runs here, and its weights cannot be found.
    """
    content = getattr(model.api, "content", None)
    if content is not None:
        return {"version": VERSION, "content": content, "config": _shaping(model)}
    address = identity_parts(str(model), model.explicit_base_url)
    folders = folders_of(str(model), model.model_args, served=bool(address["server"]))
    return {
        "version": VERSION,
        "grader": f"{str(model).partition('/')[0]}:{'+'.join(map(content_of, folders))}" if folders else str(model),
        **address,
        # Plain values only: an object's text may hold its address, and the identity would change with every process.
        "arguments": {
            name: value
            for name, value in model.model_args.items()
            if isinstance(value, str | int | float | bool) and Path(str(value)) not in folders
        },
        "config": _shaping(model),
    }


def _shaping(model: Model) -> dict[str, Any]:
    return model.config.model_dump(mode="json", exclude_none=True, include=set(_REPLY_SHAPING))


def digest(parts: object) -> str:
    """Return 12 hex digits of the SHA-256 over the canonical JSON of a judge's parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
