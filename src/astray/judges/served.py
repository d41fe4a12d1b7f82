"""Find out which server answers for a grader that has an address of its own, and what it says it serves.

A name such as `openai/judge` may stand for any model behind `OPENAI_BASE_URL`; address and model are therefore part of
a judge's identity and of the keys of its verdicts. Asking a server what it serves costs nothing. Graders of providers
without another address are what their name says.
"""

import json
import os
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from astray.errors import ConfigurationError
from astray.judges.distilled import PREFIX, identities
from astray.judges.failures import Cause, cause_of
from astray.judges.weights import LOCAL_PROVIDERS, content_of, folders_of
from astray.organism import SHIPPED

SECONDS = 5.0
"""Time within which a server says what it serves."""
_VARYING = frozenset({"created", "permission", "object"})
"""Fields of a server's answer that change when it is started again."""
_SERVED: dict[str, str] = {}
"""Grader -> what `served_as` found when the study was planned."""


def address_of(grader: str, explicit: str | None = None) -> str:
    """Return a grader's address without credentials; "" for the usual one of its provider.

    Args:
        grader: its Inspect name.
        explicit: an address that was given with the model, before those of the environment.
    """
    named = [f"{part.upper().replace('-', '_')}_BASE_URL" for part in grader.split("/")[:-1][:2]]
    url = explicit or next(filter(None, map(os.environ.get, (*named, "INSPECT_EVAL_MODEL_BASE_URL"))), "")
    return _without_credentials(url)


def served_as(graders: str | None) -> str:
    """Return address and model of graders that have an address of their own, and the identity of distilled judges,
    separated by commas as the graders are; else "".

    A server that cannot be reached, or does not say what it serves, is known by its address alone. A grader that runs
    here is known by the content of its weights, so one that was distilled anew under its old name is another one.

    Raises:
        JudgeError: a grader runs here, and its weights cannot be found.
    """
    names = [name for name in (graders or "").split(",") if name]
    remote = [name for name in names if not name.startswith("astray/")]
    return ", ".join([*filter(None, map(known_as, remote)), *identities(names)])


def known_as(model: str, explicit: str | None = None, key: str | None = None) -> str:
    """Return what is known of a model beside its name: the address of its server and what that says it serves, or the
    content of its weights; else "".

    Args:
        model: its Inspect name.
        explicit: an address that was given with the model.
        key: what the server is given as its key; by default that of OpenAI's variable.

    Raises:
        JudgeError: it runs here, and its weights cannot be found.
    """
    if url := address_of(model, explicit):
        return f"{url} {models_at(url, model, os.environ.get('OPENAI_API_KEY', '') if key is None else key)[1]}".strip()
    return "+".join(f"weights {content_of(folder)}" for folder in folders_of(model, {}, served=False))


def named_in_key(grader: str, known: str) -> str:
    """Return the name of a grader or acting model as keys have it: without the folder of one that is known by its
    content, which may lie anywhere.

    Args:
        grader: its Inspect name.
        known: what is known of it beside the name; "" for nothing.
    """
    provider, _, place = grader.partition("/")
    # Where there is an address, a folder of the model's name has nothing to do with it.
    is_here = known and "://" not in known and provider in ("astray", *LOCAL_PROVIDERS) and place not in SHIPPED
    return provider if is_here and Path(place.removeprefix(PREFIX)).exists() else grader


def advice(grader: str, note: str) -> str:
    """Return what to write in place of a grader's name where its server, one with an address of its own, has no such page.

    Args:
        grader: its Inspect name.
        note: of the call that failed.
    """
    provider, _, name = grader.partition("/")
    if provider != "openai" or not address_of(grader) or cause_of(note) != Cause.NOT_FOUND:
        return ""
    return (
        " Models of the provider 'openai' whose names Inspect does not know are asked by OpenAI's Responses API, which few "
        f"other servers have: for one of chat completions write openai-api/server/{name}, and set SERVER_BASE_URL and "
        "SERVER_API_KEY."
    )


def remember(grader: str | None, served: str) -> None:
    """Make what was found when the study was planned part of this grader's identity in this process."""
    if grader and served:
        _SERVED[grader] = served


def identity_parts(grader: str, explicit: str | None) -> dict[str, Any]:
    """Return what address and server add to the identity of a grader."""
    served = _SERVED.get(grader)
    return {"server": address_of(grader, explicit) or None} | ({"served": served} if served else {})


def models_at(url: str, name: str = "", key: str = "") -> tuple[tuple[str, ...], str]:
    """Return the names of the models that a server says it serves, and what it says of one; nothing where it cannot be
    reached.

    Args:
        url: its address, which ends in `/v1` for most.
        name: of the one model, with or without providers in front; by default its only one.
        key: what the server is given as its key.
    """
    models = _models(url, key)
    # The longest name: "server/a/b" is the model "a/b" where there is a "b" too.
    called = sorted(
        (model for model in models if f"/{name}".endswith(f"/{model['id']}")), key=lambda each: len(each["id"])
    )
    told = called[-1:] or (models if len(models) == 1 else [])
    shown = [{key: value for key, value in description.items() if key not in _VARYING} for description in told]
    return tuple(str(model["id"]) for model in models), json.dumps(shown, sort_keys=True) if told else ""


@cache
def _models(url: str, key: str) -> tuple[dict[str, Any], ...]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{url.rstrip('/')}/models", headers=headers), timeout=SECONDS
        ) as answer:
            models = json.loads(answer.read(1_000_000))["data"]
        return tuple(model for model in models if model["id"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def _without_credentials(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(
            f"{url!r} is no address ({error}). Write one such as http://127.0.0.1:8000/v1, in the command or the variable "
            "that names it."
        ) from error
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
