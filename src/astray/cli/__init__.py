"""The command line: one file a verb. Each verb is an ordinary Python function with the same arguments; nothing is
decided here.

Heavy libraries are imported inside the verbs, so `astray --help` is quick.
"""

import shlex
import signal
import sys
import threading
import traceback
from typing import Any

import click
from typing_extensions import override

from astray.cli.audit import COMMAND as AUDIT
from astray.cli.blame import BLAME, REPAIR
from astray.cli.clean import COMMAND as CLEAN
from astray.cli.count import COMMAND as COUNT
from astray.cli.doctor import COMMAND as DOCTOR
from astray.cli.ending import (
    ERROR,
    EXIT_CODES,
    INTERRUPTED,
    PIPE_CLOSED,
    PipeBrokeError,
    abandoned,
    is_full,
    past_click,
    tell_error,
    tell_full_disk,
    tell_usage,
)
from astray.cli.figure import COMMAND as FIGURE
from astray.cli.gate import COMMAND as GATE
from astray.cli.judge import judge
from astray.cli.listing import COMMAND as LIST
from astray.cli.organism import organism
from astray.cli.own import NEW, SCHEMA
from astray.cli.plan import COMMAND as PLAN
from astray.cli.reproduce import COMMAND as REPRODUCE
from astray.cli.run import COMMAND as RUN
from astray.cli.screen import COMMAND as SCREEN
from astray.cli.status import COMMAND as STATUS
from astray.cli.view import COMMAND as VIEW
from astray.errors import AstrayError


class _Verbs(click.Group):
    """Lists its commands in the order in which they were added."""

    @override
    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        # Pages tell how they were made; the key is that of report/origin.py, whose import would slow --help.
        typed = shlex.join(["astray", *args])
        with past_click():
            context = super().make_context(info_name, args, parent, **extra)
        context.meta["astray.typed"] = typed
        return context

    @override
    def invoke(self, ctx: click.Context) -> Any:
        with past_click():
            return super().invoke(ctx)

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    name="astray",
    cls=_Verbs,
    no_args_is_help=True,
    epilog="Exit codes: " + "; ".join(f"{code}: {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
)
@click.version_option(package_name="astray", message="%(prog)s %(version)s")
def app() -> None:
    """Finds out whether, why and how a language model goes astray, and brings it back."""


COMMANDS = (
    *(RUN, PLAN, NEW, SCHEMA, AUDIT, GATE, COUNT, SCREEN, BLAME, REPAIR),
    *(VIEW, FIGURE, REPRODUCE, LIST, STATUS, CLEAN, DOCTOR, judge, organism),
)
for command in COMMANDS:
    app.add_command(command)


def main() -> None:
    """Run the command line; an error that Astray raised on purpose is a message on stderr, not a traceback."""
    # A shell without job control starts `astray ... &` with SIGINT ignored: `kill -INT` would be lost without a word.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = _run()
        sys.stdout.flush()
    except (PipeBrokeError, BrokenPipeError):
        if abandoned():
            code = PIPE_CLOSED
        else:  # the pipe of a worker or a server
            traceback.print_exc()
            code = ERROR
    except OSError as error:
        if not is_full(error):
            raise
        code = tell_full_disk(error)
    sys.exit(code)


def _run() -> Any:
    """Run the command line, and return its exit code."""
    try:
        app.main(prog_name="astray", standalone_mode=False)
    except SystemExit as ended:
        return ended.code
    except PipeBrokeError:
        raise
    except AstrayError as error:
        tell_error(f"astray: {error}")
        return ERROR
    except click.Abort:
        print("\nastray: stopped. What is finished is kept; the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    except click.ClickException as error:
        tell_usage(error)
        return ERROR
    except Exception as error:  # a fault of Astray: Python's own exit code for it, 1, would say that a check failed
        if is_full(error):  # of what is printed, since files have errors of ours
            raise
        traceback.print_exc()
        return ERROR
    return 0
