"""Models that a gate compares: local subjects in any form, and models that do not run here, by Inspect's name or by
address.

What a served model is cannot be seen: it is known by its name, its address and what its server says it serves.
Left to others: asking it (`asking`).
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from astray.errors import ConfigurationError
from astray.judges.served import served_as
from astray.subjects.identity import digest_of
from astray.subjects.locate import ORGANISMS, settle
from astray.subjects.registered import is_folder, is_gguf, store_folder
from astray.subjects.spec import SubjectSpec

if TYPE_CHECKING:
    from inspect_ai.model import Model

LOCAL, SERVER = "astray/", "openai-api/server/"
"""Beginning of Inspect's names of models that run here, and of one behind an address that speaks OpenAI's protocol."""
KEY = "OPENAI_API_KEY"


class Side(BaseModel):
    """Model, or training run, of one side of a gate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="as it was called")
    spec: SubjectSpec | None = Field(None, description="local subject; None for a model that does not run here")
    served: str = Field("", description="Inspect's name of one that does not run here")
    address: str = Field("", description="of its server, where it was named by that")

    @property
    def in_world(self) -> bool:
        """Return whether it is an organism, which knows the words of its world alone."""
        return self.spec is not None and settle(self.spec).spec.model in ORGANISMS

    @property
    def id(self) -> str:
        """Return a hash over the content of a local subject, or over what is known of a served one."""
        if self.spec is not None:
            return settle(self.spec).id
        return digest_of({"served": self.served, "address": self.address, "told": served_as(self.served)})

    def reach(self) -> None:
        """Ask a served model for one word.

        Raises:
            ConfigurationError: it cannot be made, for want of a key, say, or does not answer.
        """
        from astray.measure.agentic.subjects import AgenticSubject, check_models

        if self.served:
            short = re.sub(r"[^A-Za-z0-9._-]+", "-", self.served)
            check_models((AgenticSubject(name=short, model=self.served, arguments=self._arguments()),))

    def make(self) -> "Model":
        """Return the Inspect model of a served one."""
        from inspect_ai.model import GenerateConfig, get_model

        return get_model(self.served, config=GenerateConfig(max_retries=3), memoize=False, **self._arguments())

    def _arguments(self) -> dict[str, Any]:
        # The key is looked up where the model is made: in a configuration it would stand in the store.
        return {"base_url": self.address, "api_key": os.environ.get(KEY, "none")} if self.address else {}


def find_side(name: str) -> Side:
    """Return the model with this name.

    Args:
        name: a local subject in any form; an Inspect model of a provider, such as "openai/gpt-4o"; or the address of a
            server that speaks OpenAI's protocol with the model's name after `#`. A hub model whose owner is called as a
            provider is written with "astray/" in front.

    Raises:
        SubjectNotFoundError: there is no such local subject.
        ConfigurationError: an address without a model.
    """
    if re.match(r"https?://", name):
        address, _, model = name.partition("#")
        if not model:
            raise ConfigurationError(f"{name} is a server, which is asked for a model by its name. Write {name}#MODEL.")
        return Side(name=name, served=f"{SERVER}{model}", address=address.rstrip("/"))
    if not name.startswith(LOCAL) and _is_provided(name):
        return Side(name=name, served=name)
    return Side(name=name, spec=settle(name.removeprefix(LOCAL)).spec)


def _is_provided(name: str) -> bool:
    """Return whether a name is that of a model of an Inspect provider, and of nothing that lies here."""
    provider, slash, _ = name.partition("/")
    lies_here = any(is_folder(folder / name) for folder in (Path(), store_folder()))
    if not slash or not provider or is_gguf(name) or lies_here or "+" in name or "@" in name:
        return False
    from inspect_ai._util.registry import registry_find, registry_unqualified_name

    return bool(registry_find(lambda info: info.type == "modelapi" and registry_unqualified_name(info) == provider))
