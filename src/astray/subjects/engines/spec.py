"""Which engine samples answers, as `--engine` names it, and which subjects one can serve; loads no heavy library.

A step that is asked through an engine is another step than the local one, since numbers differ in their last digits. Which
server it was, is not part of the key: each is shown to hold the same weights before its answers count (`proof`).
"""

import re
import shutil
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_serializer

from astray.errors import ConfigurationError, MissingExtraError, UnknownNameError
from astray.strict import Strict
from astray.subjects.adapter_kinds import is_mergeable
from astray.subjects.base_files import ORGANISMS
from astray.subjects.engines.forms import form_of
from astray.subjects.locate import Located
from astray.subjects.registered import is_gguf

LOCAL, VLLM = "local", "vllm"
PROGRAM = "vllm"
INSTALL = "pip install vllm (best in an environment of its own, whose bin folder is put on PATH)"


class Engine(Strict):
    """A server that samples answers.

    Attributes:
        address: of a server that is there, without `/v1`; "" for vLLM servers that are started here.
        model: name of the base at that server, where it serves several.
        rank: largest rank of the adapters to come, so that one server takes them all.
    """

    address: str = ""
    model: str = ""
    rank: int = Field(default=0, ge=0)

    @property
    def named(self) -> str:
        """Return what a user calls it."""
        return self.address or VLLM


def _of_text(given: object) -> object:
    if not isinstance(given, str):
        return given
    if given == LOCAL:
        return None
    if given == VLLM:
        return Engine()
    if re.match(r"https?://[^/#]", given):
        url, _, model = given.partition("#")
        return Engine(address=re.sub(r"/v1$", "", url.rstrip("/")), model=model)
    raise UnknownNameError("engine", given, (LOCAL, VLLM, "http://127.0.0.1:8000"))


EngineOption = Annotated[Engine | None, BeforeValidator(_of_text)]
"""Engine as it is typed: local, vllm, or the address of a server."""


def engine_named(given: "str | Engine | None") -> Engine | None:
    """Return the engine that `--engine` names; None for this process.

    Raises:
        UnknownNameError: there is no such engine.
    """
    found = _of_text(given)
    assert found is None or isinstance(found, Engine)
    return found


class Asked(Strict):
    """Configuration of a step that asks a subject: the engine stands in its key where one is used, and else not at all."""

    engine: Engine | None = None

    @model_serializer(mode="wrap")
    def _without_address(self, write: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        shown = write(self)
        shown.pop("engine", None)
        return shown if self.engine is None else shown | {"engine": "served"}

    @property
    def uses_gpu(self) -> bool:
        """Return whether the step itself needs a GPU: one that asks a server that is there does not."""
        return self.engine is None or not self.engine.address


def check_engine(engine: Engine, located: Located, name: str) -> None:
    """Refuse an engine that is not there, and a subject that it cannot serve; nothing is started or asked.

    Raises:
        MissingExtraError: vLLM is not installed.
        ConfigurationError: says why, and what to write instead.
    """
    why = ""
    if located.spec.model in ORGANISMS:
        why = "the organism is Astray's own architecture, which no server knows"
    elif is_gguf(located.spec.model):
        why = "a GGUF file is converted for this process alone"
    elif located.precision == "nf4":
        why = "a server would hold the base in another number format than nf4"
    elif located.spec.interventions:
        why = "steering acts inside of the model, where no server lets it"
    elif (adapter := located.spec.adapter) and (form := form_of(adapter)).reason:
        if engine.address:
            why = f"{form.reason}, which a server cannot apply; --engine {VLLM} serves it with merged weights"
        elif not is_mergeable(adapter):
            why = f"{form.reason}, which vLLM cannot apply and which cannot be merged exactly"
    if why:
        raise ConfigurationError(
            f"--engine {engine.named} cannot serve {name!r}: {why}. Leave --engine out, or write --engine {LOCAL}."
        )
    if not engine.address and shutil.which(PROGRAM) is None:
        raise MissingExtraError("the program vllm", f"--engine {VLLM}", INSTALL)
