"""Tools that a model is offered: mailbox, files, alerts, database.

Each is a method of the sample's desk (`desk`), whose docstring a model reads.

Acts stand in the sample's store, so approvers, logs and gates see what really happened.
"""

from collections.abc import Callable, Coroutine
from functools import lru_cache, wraps
from typing import Any

from inspect_ai.tool import ToolDef, ToolInfo
from inspect_ai.util import store

from astray.measure.agentic.acts import acts_of
from astray.measure.agentic.desk import Desk
from astray.measure.agentic.render import Office


@lru_cache(maxsize=1024)
def tools_of(office: Office) -> tuple[ToolDef, ...]:
    """Return the tools of an office, made once per cell: Inspect reads a tool's docstring each time it is made."""
    return tuple(ToolDef(_on_desk(office, name), name=name) for name in office.tools)


@lru_cache(maxsize=1024)
def infos_of(office: Office) -> tuple[ToolInfo, ...]:
    """Return the same tools as a provider is told of them."""
    return tuple(
        ToolInfo(name=tool.name, description=tool.description, parameters=tool.parameters) for tool in tools_of(office)
    )


def _on_desk(office: Office, name: str) -> Callable[..., Coroutine[Any, Any, str]]:
    """Return a method of the desk as it stands when it is called, with the method's arguments and docstring."""
    method: Callable[..., str] = getattr(Desk(office), name)

    @wraps(method)
    async def execute(**arguments: str) -> str:
        text: str = getattr(Desk(office, acts_of(store())), name)(**arguments)
        return text

    return execute
