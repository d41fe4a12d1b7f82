"""`astray reproduce`: a paper's findings beside our run."""

from pathlib import Path

import click

from astray.cli.options import option


def reproduce(paper: str, results: Path | None, data: Path | None, markdown: Path | None) -> None:
    """Print the card of a paper, and write it as Markdown where a file is named."""
    from astray.errors import StoreError
    from astray.studies.reproduce.card import make_card
    from astray.studies.reproduce.page import markdown_of, text_of

    card = make_card(paper, results, data)
    if markdown is not None:
        try:
            markdown.write_text(markdown_of(card), encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{markdown} cannot be written: {error}. Name a file in a folder that exists.") from error
    print(text_of(card))


FOLDER = click.Path(path_type=Path)
COMMAND = click.Command(
    "reproduce",
    callback=reproduce,
    params=[
        click.Argument(["paper"]),
        option("--results", FOLDER, "Results folder of the paper's study. By default our figures in the docs.", "PATH"),
        option("--data", FOLDER, "Folder with the published raw answers, which are then recounted.", "PATH"),
        option("--markdown", FOLDER, "Also write the page as Markdown into this file.", "FILE"),
    ],
    help="Compare a paper's published findings with our run: what agrees, what does not, and why.\n\n"
    "PAPER is emergent-misalignment, persona-features, reward-hacking, agentic-misalignment or dishonesty.",
    short_help="Compare a paper's findings with our run.",
)
