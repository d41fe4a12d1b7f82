"""The command line: one file a verb. Each verb is an ordinary Python function with the same arguments; nothing is decided here.

Heavy libraries are imported inside the verbs, so `astray --help` is quick.
"""

import sys

import typer

from astray.cli.doctor import doctor
from astray.cli.organism import organism
from astray.cli.plan import plan
from astray.cli.run import run
from astray.errors import AstrayError

app = typer.Typer(
    name="astray",
    help="Finds out whether, why and how a language model goes astray, and brings it back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command()(plan)
app.command()(doctor)
app.add_typer(organism, name="organism")

INTERRUPTED = 130
"""Exit code of a program that was stopped with Ctrl-C; typer turns the interrupt into it."""


def main() -> None:
    """Runs the command line; an error that Astray raised on purpose is a message, not a traceback."""
    try:
        app()
    except AstrayError as error:
        print(f"astray: {error}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            print("\nastray: stopped. What is finished is kept; the same command goes on from there.", file=sys.stderr)
        raise
