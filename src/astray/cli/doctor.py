"""`astray doctor`: what this machine can do, and what to install where it cannot."""

import sys
from typing import Annotated

import typer


def doctor(verbose: Annotated[bool, typer.Option("--verbose", help="Also the versions of all libraries.")] = False) -> bool:
    """Says what this machine can do: processors, memory, accelerator, libraries, organism, keys of API providers."""
    from astray.machine import examine

    findings = examine()
    for finding in findings:
        if verbose or finding.important or not finding.fine:
            print(f"{'ok     ' if finding.fine else 'missing'}  {finding.what}: {finding.detail}")
    fine = all(finding.fine for finding in findings if finding.important)
    if not fine:
        sys.exit(1)
    return fine
