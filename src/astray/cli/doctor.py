"""`astray doctor`: what this machine can do, and what to install where it cannot."""

import sys

import click

from astray.cli.ending import CHECK_FAILED, fitted


def doctor(verbose: bool = False, report: bool = False) -> bool:
    """Say what this machine can do: processors, memory, accelerator, libraries, organism, keys of API providers."""
    from astray import machine

    findings = machine.examine()
    if report:
        print(machine.report(findings))
    for finding in () if report else findings:
        if verbose or finding.important or not finding.fine:
            state = "ok" if finding.fine else "missing" if finding.important else "optional"
            print(fitted(f"{state:<8}  {finding.what}: {finding.detail}", sys.stdout))
    fine = all(finding.fine for finding in findings if finding.important)
    if not fine:
        sys.exit(CHECK_FAILED)
    return fine


COMMAND = click.Command(
    "doctor",
    callback=doctor,
    params=[
        click.Option(["--verbose"], is_flag=True, help="Also the versions of all libraries."),
        click.Option(
            ["--report"], is_flag=True, help="Text for a bug report: versions and device, no paths, names or keys."
        ),
    ],
    help="Say what this machine can do: processors, memory, accelerator, libraries, organism, keys of API providers.",
    short_help="Say what this machine can do, and what to install.",
)
