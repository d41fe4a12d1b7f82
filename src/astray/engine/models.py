"""Models that a user names: local subjects, and models behind Inspect or behind the address of a server.

Audit and gate find their models here. What a served model is cannot be seen: it is known by its name, its address and
what its server says it serves.
"""

import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from astray.engine.settings import check_subject
from astray.errors import ChatTemplateError, ConfigurationError, DataFormatError, DataNotFoundError
from astray.judges.served import address_of, models_at, named_in_key, served_as
from astray.strict import Strict
from astray.subjects.base_files import ORGANISMS
from astray.subjects.engines.forms import form_of
from astray.subjects.engines.spec import Engine, check_engine, engine_named
from astray.subjects.gguf import origin
from astray.subjects.identity import digest_of, parameter_count
from astray.subjects.locate import settle, spec_of
from astray.subjects.registered import is_folder, is_gguf, searched
from astray.subjects.spec import SubjectSpec

if TYPE_CHECKING:
    from inspect_ai.model import Model

    from astray.subjects.scored import ScoredServer

LOCAL, SCRIPTED, SERVER = "astray/", "astray/scripted/", "openai-api/server/"
KEY = "SERVER_API_KEY"
"""Variable with the key of a server that is named by its address; a server without a key needs none."""
RETRIES = 3
"""Further calls after one that failed in passing, so that a server that is gone ends a command and does not hang it."""


class NamedModel(Strict):
    """Model that a user named.

    Attributes:
        name: as it was called, with the name of the system prompt's file where there is one.
        spec: a local subject; None for a model behind Inspect.
        served: Inspect's name of a model that does not run here.
        address: of its server, where it was named by that.
        system: system prompt of a model that does not run here; that of a local one stands in its specification.
        tokenizer: name of the tokenizer of one behind an address, with which its probabilities can be read.
    """

    name: str = Field(min_length=1)
    spec: SubjectSpec | None = None
    served: str = ""
    address: str = ""
    system: str | None = None
    tokenizer: str = ""

    @property
    def is_scripted(self) -> bool:
        """Return whether it plays agentic scenarios from a script."""
        return self.served.startswith(SCRIPTED)

    @property
    def is_organism(self) -> bool:
        """Return whether it knows only the words of the organism's world."""
        return self.spec is not None and settle(self.spec).spec.model in ORGANISMS

    @property
    def template_notes(self) -> tuple[str, ...]:
        """Return what its chat template makes of conversations, where that is not what they say; of a local one."""
        if self.spec is None or self.is_organism:
            return ()
        return tuple(settle(self.spec).template_notes(self.name))

    @property
    def described(self) -> str:
        """Return a description for a page."""
        if self.spec is None:
            at_address = f" at {self.address}" if self.address else ""
            return f"{self.served}{at_address}" + (", under a system prompt" if self.system else "")
        located = settle(self.spec)
        parts = [f"{parameter_count(located.base) / 1e6:,.1f}M parameters"]
        parts += [f"converted from {made_from}"] if (made_from := origin(located.base)) else []
        parts += (
            [f"adapter {self.spec.adapter.name}" + (f" x {self.spec.scale:g}" if self.spec.scale != 1 else "")]
            if self.spec.adapter
            else []
        )
        parts += [f"{change.kind} {change.strength:g} at layer {change.block}" for change in self.spec.interventions]
        return ", ".join([*parts, *(["under a system prompt"] if self.spec.system else [])])

    @cached_property
    def id(self) -> str:
        """Return a hash over what it is: its content, or what is known of a model that does not run here."""
        if self.spec is not None:
            return settle(self.spec).id
        reported = (
            models_at(self.address, self.served.removeprefix(SERVER), _key())[1]
            if self.address
            else served_as(self.served)
        )
        served = named_in_key(self.served, reported)
        return digest_of({"served": served, "address": self.address, "told": reported, "system": self.system})

    def check(self) -> None:
        """Refuse a local model that cannot be asked; no weights are read.

        Raises:
            ChatTemplateError, AdapterMismatchError: it has no chat template, or its adapter does not fit.
        """
        if self.spec is not None:
            check_subject(settle(self.spec))

    def reach(self) -> None:
        """Ask a remote model for one word.

        Raises:
            ConfigurationError: it cannot be made, or does not answer.
        """
        from astray.measure.agentic.subjects import AgenticSubject, check_models

        if self.served:
            short = re.sub(r"[^A-Za-z0-9._-]+", "-", self.served)
            check_models((AgenticSubject(name=short, model=self.served, arguments=self._arguments()),))

    def make(self) -> "Model":
        """Return the Inspect model of one that does not run here, under its system prompt."""
        from inspect_ai.model import GenerateConfig, get_model

        config = GenerateConfig(system_message=self.system, max_retries=RETRIES)
        return get_model(self.served, config=config, memoize=False, **self._arguments())

    def scorer(self) -> "ScoredServer":
        """Return what reads the log-probabilities of given answers of a model behind an address.

        Raises:
            SubjectNotFoundError, ChatTemplateError: its tokenizer cannot be used.
        """
        from astray.subjects.scored import ScoredServer, tokenizer_named

        tokenizer = tokenizer_named(self.tokenizer)
        return ScoredServer(self.address, self.served.removeprefix(SERVER), tokenizer, key=_key(), system=self.system)

    def _arguments(self) -> dict[str, Any]:
        # The key is looked up where the model is made: in a configuration it would stand in the store.
        return {"base_url": self.address, "api_key": _key() or "none"} if self.address else {}


def find_model(name: str, system_file: Path | None = None) -> NamedModel:
    """Return the model with this name.

    Args:
        name: a local subject in any form; an Inspect model such as "openai/gpt-4o"; or the address of a server that
            speaks OpenAI's protocol, with the model's name after `#` where it serves several.
        system_file: text file with a system prompt.

    Raises:
        SubjectNotFoundError: there is no such local model.
        ConfigurationError: it can be none, or a server does not say what it serves.
        DataNotFoundError, DataFormatError: the system prompt cannot be read.
    """
    system = None if system_file is None else _system_prompt(system_file)
    called = name if system_file is None else f"{name} under {system_file.name}"
    bare = name.removeprefix(LOCAL)
    if re.match(r"https?://", name):
        address, model = _at_address(name)
        return NamedModel(name=called, served=f"{SERVER}{model}", address=address, system=system)
    if name.startswith(SCRIPTED) or (bare == name and _is_provided(name)):
        return NamedModel(name=called, served=name, system=system)
    located = settle(spec_of(model=bare, system=system))
    return NamedModel(name=called, spec=located.spec)


def engine_for(models: Sequence[NamedModel], choice: str | None) -> Engine | None:
    """Return the engine that `--engine` names, for all adapters among the models; None for this process.

    Raises:
        UnknownNameError, ConfigurationError, MissingExtraError: there is none such, or it cannot serve one of them.
    """
    engine = engine_named(choice)
    if engine is None:
        return None
    rank = 0
    for model in models:
        if model.spec is None:
            raise ConfigurationError(
                f"--engine {engine.named} cannot serve {model.name!r}, which does not run here but where its name says. "
                "Leave --engine out."
            )
        check_engine(engine, settle(model.spec), model.name)
        rank = max(rank, form_of(model.spec.adapter).rank if model.spec.adapter else 0)
    return engine.model_copy(update={"rank": rank})


def why_unusable(model: NamedModel) -> str:
    """Return why a model cannot be asked anything at all; "" for one that can."""
    try:
        model.check()
    except ChatTemplateError as error:
        return str(error)
    return ""


def _key() -> str:
    return os.environ.get(KEY, "")


def _system_prompt(path: Path) -> str:
    if not path.is_file():
        raise DataNotFoundError(f"There is no file {path} with a system prompt. --system-file takes a text file.")
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataFormatError(f"{path} is no text in UTF-8 ({error}). Save the system prompt as plain text.") from error
    if not text:
        raise DataFormatError(f"{path} is empty. Write the system prompt into it, or leave --system-file out.")
    return text


def _is_provided(name: str) -> bool:
    """Return whether a name is that of a model of an Inspect provider, and of nothing that lies here."""
    provider, slash, _ = name.partition("/")
    # NAME@REVISION is a model of the Hugging Face hub.
    if not slash or is_gguf(name) or any(is_folder(folder / name) for folder in (Path(), *searched())) or "@" in name:
        return False
    from inspect_ai._util.registry import registry_find, registry_unqualified_name

    return bool(registry_find(lambda info: info.type == "modelapi" and registry_unqualified_name(info) == provider))


def _at_address(name: str) -> tuple[str, str]:
    """Return the address of a server, and the model that it is asked for."""
    url, _, model = name.partition("#")
    address = address_of("", url)
    if not model:
        names, _ = models_at(address, key=_key())
        if len(names) != 1:
            served_text = f"It serves {', '.join(names)}" if names else "It does not say what it serves"
            raise ConfigurationError(
                f"The server {address} has to be asked for a model by its name. {served_text}. Write {address}#MODEL."
            )
        model = names[0]
    return address, model
