"""How a command ends where it could not do what was asked: its exit code, and what it says on stderr."""

import contextlib
import errno
import io
import os
import re
import select
import sys
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import click

CHECK_FAILED, UNDECIDED, ERROR, INTERRUPTED, PIPE_CLOSED = 1, 2, 3, 130, 141
EXIT_CODES = MappingProxyType(
    {
        0: "done; a gate has passed",
        CHECK_FAILED: "what was checked is not fine: a gate failed, a judge drifted, doctor found something missing",
        UNDECIDED: "a gate is undecided: the answers cannot tell",
        ERROR: "an error: a wrong option, input that cannot be used, a step that failed, or a fault of Astray",
        INTERRUPTED: "stopped with Ctrl-C; what is finished is kept",
        PIPE_CLOSED: "what reads the output closed the pipe, such as `| head`; there is no verdict",
    }
)
"""Exit codes of all commands. An error has a code that no verdict has, so that it cannot be taken for one."""


_COMMAND = re.compile(r"`[^`\n]+`|\b(?:astray [a-z]+|pip install)(?: \S*[^\s.,;:)])*(?=[\s.,;:)]|$)")
_COLUMN = re.compile(r"\s*\S+(?: \S+){0,2} {2,}")
"""A word or two in a column of their own, in front of a line's text."""


class PipeBrokeError(Exception):
    """Some pipe broke while a command ran; no OSError, which click would end with 1, the code of a failed check."""


@contextlib.contextmanager
def past_click() -> Iterator[None]:
    """Raise `PipeBrokeError` in place of Python's own error, so that it reaches `main`."""
    try:
        yield
    except BrokenPipeError as error:
        raise PipeBrokeError from error


def abandoned() -> bool:
    """Return whether nobody reads standard output or error any more; what is left in them is then thrown away."""
    gone = False
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            poll = select.poll()
            poll.register(stream.fileno(), 0)
            if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
                # Python writes the rest when it ends, and would end with 120 for it.
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                gone = True
    return gone


def is_full(error: Exception) -> bool:
    """Return whether an error says that a disk is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def tell_full_disk(error: OSError) -> int:
    """Say that what is printed does not fit on its disk, throw the rest away, and return the exit code."""
    message = (
        f"astray: The disk is full: {error.strerror}. What the command prints could not be written, and its verdict, if it "
        "had one, is not known. What is finished is kept: free some space and run the same again."
    )
    for stream, write in ((sys.stdout, sys.stdout.flush), (sys.stderr, lambda: tell_error(message))):
        try:
            write()
        except OSError:  # Python writes the rest when it ends, and would end with 120 for it
            if stream is not None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return ERROR


def tell_usage(error: click.ClickException) -> None:
    """Print what is wrong with the words of a command; all that is missing at once."""
    usage = io.StringIO()
    if isinstance(error, click.MissingParameter) and error.ctx is not None:
        # click stops at the first: what was given before it is in the context by then.
        missing = [
            _name(param) for param in error.ctx.command.params if param.required and param.name not in error.ctx.params
        ]
        shown: click.ClickException = click.UsageError(f"Missing: {', '.join(missing)}.", error.ctx)
        error = shown if len(missing) > 1 else error
    error.show(usage)
    tell_error(usage.getvalue().rstrip())


def tell_error(message: str) -> None:
    """Print a message on stderr, in a terminal no wider than it."""
    print(fitted(message, sys.stderr), file=sys.stderr)


def fitted(text: str, stream: Any) -> str:
    """Return a text with lines no longer than those of a terminal; as it is where the stream is none.

    Paths and commands stay whole, to be copied: one that is longer than the line stands out of it.

    Args:
        text: one line or several.
        stream: that it is printed on, or what rich put in its place.
    """
    if not stream.isatty():
        return text
    from rich.console import Console

    from astray.report.wording import wrapped

    width = Console(file=stream).width
    lines = []
    for line in text.split("\n"):
        if len(line) <= width:
            lines.append(line)
            continue
        column = _COLUMN.match(line)
        lead = column[0] if column else line[: len(line) - len(line.lstrip())]
        lines += wrapped(lead, _COMMAND.sub(lambda found: found[0].replace(" ", "\0"), line[len(lead) :]), width)
    return "\n".join(lines).replace("\0", " ")


def _name(param: click.Parameter) -> str:
    """Return what stands in a command for a parameter: FILE, or --task FILE."""
    if isinstance(param, click.Option):
        return f"{param.opts[0]} {param.metavar or ''}".rstrip()
    return (param.metavar or param.human_readable_name).upper().removesuffix("...")
