"""`astray figure`: a figure of a finished study as a file."""

from pathlib import Path

import click

from astray.cli.options import option


def figure(results: Path, name: str, format: str, width: int, out: Path, list: bool) -> None:
    """Write a figure for light and for dark pages, or list the figures of a study."""
    from astray.engine.summary import Summary
    from astray.report.picture import figures_of, write_figure

    summary = Summary.read(results)
    if list:
        for each, shown in figures_of(summary).items():
            print(f"{each:<24}{shown.title}")
        return
    for path in write_figure(summary, name, format, out, width):
        print(path)


COMMAND = click.Command(
    "figure",
    callback=figure,
    params=[
        click.Argument(["results"], type=click.Path(path_type=Path), metavar="RESULTS"),
        click.Argument(["name"], default="main"),
        option("--format", str, "svg, png or pdf. [default svg]", "FORMAT", default="svg"),
        option(
            "--width",
            click.IntRange(400, 2000),
            "Pixels; letters keep their size, so 540 is for a telephone. [400 to 2000, default 900]",
            "INTEGER",
            default=900,
        ),
        option("--out", click.Path(path_type=Path), "Folder for the files. [default .]", "PATH", default=Path()),
        click.Option(["--list"], is_flag=True, help="List the figures of the study, and draw none."),
    ],
    help="Draw a figure of a finished study, once for light and once for dark pages, with its intervals.\n\n"
    "RESULTS is the folder of one study, with its summary.json. NAME is one of --list; main, its main finding, if not "
    "given.",
    short_help="Draw a figure of a study as SVG, PNG or PDF.",
)
