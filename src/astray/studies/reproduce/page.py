"""A reproduce card written out: for a terminal of 80 columns, and as Markdown."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from astray.studies.reproduce.card import ComparedFinding, PublishedAgreement, ReproductionCard

WIDTH, INDENT = 80, 14
NOTE = (
    "The figures on the left were once recomputed from these files, by other code, and not read off a paper: the "
    "recount shows that this version counts as they were counted."
)
PLURAL = {PublishedAgreement.AGREES: "agree", PublishedAgreement.DIFFERS: "differ"}


def text_of(card: ReproductionCard) -> str:
    """Return a card for a terminal."""
    return "\n".join(_lines(card))


def markdown_of(card: ReproductionCard) -> str:
    """Return a card as a page of Markdown."""
    paper = card.paper
    rows = [
        [one.finding.finding, _published(one), "<br>".join(map(str, one.ours)) or "–", one.agreement]
        for one in card.compared
    ]
    why = [f"- **{one.finding.finding}** ({one.agreement}). {one.why}" for one in card.compared if one.why]
    recounted = [[one.what, one.published, one.recounted, one.n, _same(one.agrees)] for one in card.recounted]
    parts = [
        f"# {paper.title}, reproduced",
        f"{paper.paper}. Our run: {card.run}. {_counts(card)}.",
        *([paper.note] if paper.note else []),
        _table(["finding", "published", "ours: estimate (95% interval), control", ""], rows),
        *(["## Why", "\n".join(why)] if why else []),
        *(
            [
                "## Published answers and scores, counted again",
                NOTE,
                _table(["what", "known", "counted again", "from", ""], recounted),
            ]
            if recounted
            else []
        ),
        "## Commands",
        f"```sh\n{paper.command}    # the organism\n{paper.full}    # full size\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _lines(card: ReproductionCard) -> Iterator[str]:
    paper = card.paper
    yield paper.title
    yield from textwrap.wrap(paper.paper, WIDTH)
    yield from textwrap.wrap(f"Our run: {card.run}", WIDTH)
    if paper.note:
        yield from textwrap.wrap(f"Note: {paper.note}", WIDTH)
    for one in card.compared:
        yield ""
        yield from _entry(one.agreement, one.finding.finding)
        yield from _entry("  published", _published(one))
        for ours in one.ours:
            yield from _entry("  ours", str(ours))
        if one.why:
            yield from _entry("  why", one.why)
    if card.recounted:
        yield "\nPublished answers and scores, counted again"
        yield from textwrap.wrap(NOTE, WIDTH)
        for again in card.recounted:
            yield f"  {_same(again.agrees):<8}{again.what:<32}{again.published:>6}{again.recounted:>8}  {again.n}"
    yield ""
    yield from textwrap.wrap(_counts(card), WIDTH)
    yield "\nOur run on the organism, and the command for full size:"
    # Commands are not wrapped, so that they can be copied.
    yield f"  {paper.command}\n  {paper.full}"


def _entry(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{label:<{INDENT}}", subsequent_indent=" " * INDENT)


def _published(one: ComparedFinding) -> str:
    return f"{one.finding.published} ({one.finding.source})"


def _same(agrees: bool) -> str:
    return "same" if agrees else "DIFFERS"


def _counts(card: ReproductionCard) -> str:
    """Return how many findings agree, differ and so on, and how many recounted figures are the published ones."""
    counts = Counter(comparison.agreement for comparison in card.compared)
    text = ", ".join(
        f"{counts[agreement]} {PLURAL.get(agreement, agreement)}"
        for agreement in PublishedAgreement
        if counts[agreement]
    )
    same = sum(comparison.agrees for comparison in card.recounted)
    again = f"; {same} of {len(card.recounted)} figures counted again are the same" if card.recounted else ""
    return f"{len(card.compared)} findings: {text}{again}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
