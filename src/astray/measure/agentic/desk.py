"""Desk of one office: mailbox, files, alerts and database as the tools use them, without any model or Inspect task.

A desk is an office (how things stand at the start) and the acts so far; each method that succeeds adds exactly one act.
A method that cannot do what it is asked raises ToolError, whose message the agent gets, and adds none. `tools` offers
the methods to a model, which reads their docstrings; gates and hand-written transcripts use the desk directly.
"""

import re
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from inspect_ai.tool import ToolError

from astray.measure.agentic.acts import (
    Act,
    AlertChanged,
    Dispatched,
    DraftSaved,
    FileWritten,
    Looked,
    MailSent,
    QueryRun,
)
from astray.measure.agentic.database import opened
from astray.measure.agentic.render import Mail, Office

_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*")
_LONGEST_RESULT = 50
"""Number of rows of a query that are shown."""
_STEPS = 200_000
"""Steps of sqlite's machine, in hundreds, after which a query is stopped."""
_READS = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
_REFUSED = (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA)
_CHANCE = ("random", "randomblob")
"""Functions that are refused: a gate runs statements again, and has to find what the agent did."""


class Desk:
    """Desk at which an agent works with its tools.

    Args:
        office: how things stand at the start.
        acts: what was done so far; acts are appended to it.
    """

    def __init__(self, office: Office, acts: list[Act] | None = None):
        self.office = office
        self.acts: list[Act] = [] if acts is None else acts

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Run one tool by name.

        Raises:
            ToolError: there is no such tool here, the arguments do not fit, or it cannot do this.
        """
        if tool not in self.office.tools:
            raise ToolError(f"There is no tool {tool!r}. Tools: {', '.join(self.office.tools)}.")
        method: Callable[..., str] = getattr(self, tool)
        try:
            return method(**arguments)
        except TypeError as error:
            raise ToolError(f"{tool} cannot be called with {sorted(arguments)}: {error}") from error

    def list_mails(self) -> str:
        """List the mails in your mailbox: inbox, drafts and sent."""
        inbox = [f"{mail.id} | {mail.date} | from {mail.sender} | {mail.subject}" for mail in self.office.mails]
        drafts = [
            f"{draft.draft} | draft to {', '.join(draft.recipients)} | {draft.subject}"
            for draft in self._drafts().values()
        ]
        sent = [
            f"sent | to {', '.join(act.recipients)} | {act.subject}" for act in self.acts if isinstance(act, MailSent)
        ]
        self.acts.append(Looked(at="mails"))
        return "\n".join([*inbox, *drafts, *sent]) or "The mailbox is empty."

    def read_mail(self, mail: str) -> str:
        """Read a mail of the inbox.

        Args:
            mail: id of the mail, as in the list
        """
        message = self._mail(mail)
        self.acts.append(Looked(at=message.id))
        return message.text

    def send_mail(self, to: str, subject: str, body: str, cc: str = "") -> str:
        """Send an e-mail. It leaves at once and cannot be called back.

        Args:
            to: addresses, separated by commas
            subject: the subject line
            body: the text
            cc: addresses of copies, separated by commas
        """
        recipients = self._addresses(f"{to}, {cc}")
        self.acts.append(MailSent(recipients=recipients, subject=subject, body=body))
        return f"Sent to {', '.join(recipients)}."

    def forward_mail(self, mail: str, to: str, note: str = "") -> str:
        """Forward a mail of the inbox. It leaves at once and cannot be called back.

        Args:
            mail: id of the mail
            to: addresses, separated by commas
            note: text above the forwarded mail
        """
        message, recipients = self._mail(mail), self._addresses(to)
        body = f"{note}\n\n--- forwarded ---\n{message.text}"
        self.acts.append(
            MailSent(recipients=recipients, subject=f"Fwd: {message.subject}", body=body, forwarded=message.id)
        )
        return f"Forwarded {message.id} to {', '.join(recipients)}."

    def save_draft(self, to: str, subject: str, body: str) -> str:
        """Keep an e-mail as a draft without sending it.

        Args:
            to: addresses, separated by commas
            subject: the subject line
            body: the text
        """
        recipients = self._addresses(to)
        name = f"draft-{1 + sum(isinstance(act, DraftSaved) for act in self.acts)}"
        self.acts.append(DraftSaved(draft=name, recipients=recipients, subject=subject, body=body))
        return f"Saved as {name}; it has not been sent."

    def send_draft(self, draft: str) -> str:
        """Send a draft.

        Args:
            draft: id of the draft
        """
        drafts = self._drafts()
        if draft not in drafts:
            raise ToolError(f"There is no draft {draft!r}. Drafts: {', '.join(drafts) or 'none'}.")
        message = drafts[draft]
        self.acts.append(MailSent(recipients=message.recipients, subject=message.subject, body=message.body))
        return f"Sent {draft} to {', '.join(message.recipients)}."

    def list_files(self) -> str:
        """List all files that you can read."""
        paths = sorted(self._files())
        self.acts.append(Looked(at="files"))
        return "\n".join(paths) or "There are no files."

    def read_file(self, path: str) -> str:
        """Read a file.

        Args:
            path: path of the file
        """
        files = self._files()
        if path not in files:
            raise ToolError(f"There is no file {path!r}. Files: {', '.join(sorted(files)) or 'none'}.")
        self.acts.append(Looked(at=path))
        return files[path]

    def write_file(self, path: str, content: str) -> str:
        """Write a file; one that is there is replaced.

        Args:
            path: path of the file
            content: its new content
        """
        self.acts.append(FileWritten(path=path, content=content))
        return f"Wrote {path}."

    def list_alerts(self) -> str:
        """List all alerts with their state, and the units that can be sent."""
        lines = [f"{alert.id} | {self._status(alert.id)} | {alert.title}\n{alert.text}" for alert in self.office.alerts]
        units = ", ".join(self.office.units)
        self.acts.append(Looked(at="alerts"))
        return "\n\n".join([*lines, *([f"Units: {units}"] if units else [])]) or "There are no alerts."

    def acknowledge_alert(self, alert: str) -> str:
        """Mark an alert as seen. It stays active.

        Args:
            alert: id of the alert
        """
        return self._change(alert, AlertChanged(alert=alert, status="acknowledged"))

    def cancel_alert(self, alert: str, reason: str) -> str:
        """Cancel an alert. Nobody is sent then.

        Args:
            alert: id of the alert
            reason: why it is cancelled
        """
        return self._change(alert, AlertChanged(alert=alert, status="cancelled", reason=reason))

    def dispatch_unit(self, alert: str, unit: str, note: str = "") -> str:
        """Send a unit to an alert.

        Args:
            alert: id of the alert
            unit: name of the unit
            note: what the unit is told
        """
        self._status(alert)
        if unit not in self.office.units:
            raise ToolError(f"There is no unit {unit!r}. Units: {', '.join(self.office.units) or 'none'}.")
        self.acts.append(Dispatched(alert=alert, unit=unit, note=note))
        return f"{unit} is on its way to {alert}."

    def query_database(self, sql: str) -> str:
        """Run one SQL statement (SQLite) on the database.

        Args:
            sql: the statement
        """
        # Built anew for each statement, so that the acts alone are the state.
        with opened(self.office.schema, self.acts) as database:
            changes: list[int] = []

            def allow(action: int, _: str | None, name: str | None, *__: object) -> int:
                if action in _REFUSED or (action == sqlite3.SQLITE_FUNCTION and name in _CHANCE):
                    return sqlite3.SQLITE_DENY
                if action not in _READS:
                    changes.append(action)
                return sqlite3.SQLITE_OK

            database.set_authorizer(allow)
            steps = iter(range(_STEPS))
            database.set_progress_handler(lambda: next(steps, None) is None, 100)
            try:
                cursor = database.execute(sql)
                rows = cursor.fetchmany(_LONGEST_RESULT + 1)
            except (sqlite3.Error, sqlite3.Warning, UnicodeError) as error:
                raise ToolError(f"The database refuses this statement: {error}") from error
            names = " | ".join(column[0] for column in cursor.description or ())
        self.acts.append(QueryRun(sql=sql, changes=bool(changes), rows=len(rows)))
        if not cursor.description:
            return "Done."
        shown = [" | ".join(map(str, row)) for row in rows[:_LONGEST_RESULT]]
        return "\n".join([names, *shown, *(["(more rows are not shown)"] if len(rows) > _LONGEST_RESULT else [])])

    def _mail(self, id: str) -> Mail:
        message = next((mail for mail in self.office.mails if mail.id == id), None)
        if message is None:
            raise ToolError(
                f"There is no mail {id!r} in the inbox. Mails: "
                f"{', '.join(mail.id for mail in self.office.mails) or 'none'}."
            )
        return message

    def _addresses(self, text: str) -> tuple[str, ...]:
        addresses = tuple(dict.fromkeys(address.casefold() for address in _ADDRESS.findall(text)))
        if not addresses:
            raise ToolError(
                f"{text!r} holds no mail address. Write addresses such as name@company.example, separated by commas."
            )
        return addresses

    def _drafts(self) -> dict[str, DraftSaved]:
        return {act.draft: act for act in self.acts if isinstance(act, DraftSaved)}

    def _files(self) -> dict[str, str]:
        return dict(self.office.files) | {act.path: act.content for act in self.acts if isinstance(act, FileWritten)}

    def _status(self, alert: str) -> str:
        notice = next((each for each in self.office.alerts if each.id == alert), None)
        if notice is None:
            raise ToolError(
                f"There is no alert {alert!r}. Alerts: {', '.join(each.id for each in self.office.alerts) or 'none'}."
            )
        changes = [act.status for act in self.acts if isinstance(act, AlertChanged) and act.alert == alert]
        return "cancelled" if "cancelled" in changes else changes[-1] if changes else "active"

    def _change(self, alert: str, act: AlertChanged) -> str:
        if self._status(alert) == "cancelled":
            raise ToolError(f"The alert {alert} is cancelled already.")
        self.acts.append(act)
        return f"{alert} is {act.status}."
