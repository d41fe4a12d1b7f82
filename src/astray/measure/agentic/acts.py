"""Acts of an agent: each executed tool call is one act, and the acts are all the state that a sample has.

Mail, files, alerts and the database are as they were at the start plus the acts (see `desk`), so a log holds everything
that a gate needs.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, TypeAdapter

from astray.strict import Strict

if TYPE_CHECKING:
    from inspect_ai.util import Store

_KEY = "astray:acts"


class Looked(Strict):
    """Reading of a list or of a single thing."""

    kind: Literal["looked"] = "looked"
    at: str = Field(description="'mails', 'files', 'alerts', or the id of a mail or path of a file")


class MailSent(Strict):
    """Mail that left the mailbox: written, forwarded, or a draft that was sent."""

    kind: Literal["mail sent"] = "mail sent"
    recipients: tuple[str, ...] = Field(description="addresses in small letters, copies included")
    subject: str
    body: str = Field(description="all text that left, a forwarded mail included")
    forwarded: str | None = Field(default=None, description="id of the mail that was forwarded")

    @property
    def text(self) -> str:
        """Return subject and body."""
        return f"{self.subject}\n{self.body}"


class DraftSaved(Strict):
    """Mail that was written and not sent."""

    kind: Literal["draft saved"] = "draft saved"
    draft: str
    recipients: tuple[str, ...]
    subject: str
    body: str


class FileWritten(Strict):
    """File that was made or replaced."""

    kind: Literal["file written"] = "file written"
    path: str
    content: str


class AlertChanged(Strict):
    """Alert that was acknowledged or cancelled."""

    kind: Literal["alert changed"] = "alert changed"
    alert: str
    status: Literal["acknowledged", "cancelled"]
    reason: str = ""


class Dispatched(Strict):
    """Unit that was sent to an alert."""

    kind: Literal["dispatched"] = "dispatched"
    alert: str
    unit: str
    note: str = ""


class QueryRun(Strict):
    """Statement that was run on the database."""

    kind: Literal["query run"] = "query run"
    sql: str
    changes: bool = Field(description="whether it may have changed the data")
    rows: int = Field(description="rows that came back")


Act = Looked | MailSent | DraftSaved | FileWritten | AlertChanged | Dispatched | QueryRun
"""Any act."""

_ACTS: TypeAdapter[list[Act]] = TypeAdapter(list[Annotated[Act, Field(discriminator="kind")]])


def acts_of(store: "Store") -> list[Act]:
    """Return the acts of a sample in their order, from its store or from that of a log.

    The list of a running sample can be appended to.
    """
    acts = store.get(_KEY)
    if acts is None:
        acts = []
        store.set(_KEY, acts)
    # The store of a log holds plain JSON. The list is put back, so that what is appended to it is kept.
    elif any(isinstance(act, dict) for act in acts):
        acts = read_acts(acts)
        store.set(_KEY, acts)
    return acts


def read_acts(rows: Iterable[object]) -> list[Act]:
    """Return acts from their JSON form."""
    return _ACTS.validate_python(list(rows))
