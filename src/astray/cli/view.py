"""`astray view`: the reports of a results folder in a browser."""

from pathlib import Path

import click

from astray.cli.options import OUT, RESULTS, option


def view(folder: Path, out: Path, port: int, no_browser: bool) -> None:
    """Serve the reports until Ctrl-C, and open them."""
    import webbrowser

    from astray.report.serve import HOST, server_for
    from astray.studies import get_study, is_study_file

    if is_study_file(str(folder)):
        folder = out / get_study(str(folder)).name
    with server_for(folder, port) as server:
        address = f"http://{HOST}:{server.server_address[1]}/"
        print(f"The reports of {folder}: {address} (Ctrl-C ends it)", flush=True)
        if not no_browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("Ended.")


COMMAND = click.Command(
    "view",
    callback=view,
    params=[
        click.Argument(["folder"], type=click.Path(path_type=Path), default=RESULTS),
        OUT,
        option(
            "--port", click.IntRange(0, 65535), "Port of this machine; any free one without it.", "INTEGER", default=0
        ),
        click.Option(["--no-browser"], is_flag=True, help="Print the address and open nothing."),
    ],
    help="Open the reports of a results folder in a browser. They are served to this machine alone (127.0.0.1), with "
    "an index page, until Ctrl-C.\n\n"
    f"FOLDER is the folder of the results, or of one study, or a study file; {RESULTS} if not given.",
    short_help="Open the reports of a results folder in a browser.",
)
