"""The reports of a results folder in a browser: an index page and the reports themselves, served to this machine alone.

Nothing but the reports that were there at the start is served, whatever is asked for; a request under another name than
this machine's own, as a page elsewhere could make a browser send, is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from typing_extensions import override

from astray.engine.summary import Summary
from astray.errors import ConfigurationError, StoreError
from astray.report.page import write_report

REPORT, SUMMARY = "report.html", "summary.json"
HOST = "127.0.0.1"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme"
content="light dark"><title>Reports · Astray</title><link rel="icon" href="data:,"><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;
margin:3rem auto;padding:0 1rem}}li{{margin:1rem 0}}small{{display:block;opacity:.75}}</style></head><body><main><h1>Reports</h1><ul>
{items}
</ul></main></body></html>
"""


@dataclass(frozen=True)
class FinishedStudy:
    """A finished study.

    Attributes:
        folder: that holds its summary and its report.
        summary: what came out.
    """

    folder: Path
    summary: Summary

    @property
    def counts(self) -> str:
        """Return the numbers of claims by verdict, in words."""
        results = [claim.result for claim in self.summary.claims]
        return ", ".join(f"{results.count(result)} {result}" for result in dict.fromkeys(results)) or "no claims"


def results_in(folder: Path) -> tuple[FinishedStudy, ...]:
    """Return the finished studies of a results folder, or the one whose folder it is.

    Raises:
        StoreError: there is no such folder.
        DataFormatError: a summary cannot be read.
    """
    if not folder.is_dir():
        raise StoreError(
            f"There is no folder {folder}. Name the folder of the results, such as astray-results, or run a study "
            "first: astray run --help."
        )
    homes = [path.parent for path in sorted((*folder.glob(SUMMARY), *folder.glob(f"*/{SUMMARY}")))]
    return tuple(FinishedStudy(home, Summary.read(home)) for home in homes)


def server_for(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of the reports in a folder; a report that is not there is written first.

    Raises:
        StoreError: there is no finished study in the folder.
        ConfigurationError: the port is taken.
    """
    results = results_in(folder)
    if not results:
        raise StoreError(
            f"{folder} holds no finished study: no {SUMMARY} in it or in a folder of it. Run one first: astray run "
            "--help."
        )
    pages: dict[str, Path] = {}
    for result in results:
        report = result.folder / REPORT
        pages[f"/{result.folder.resolve().name}/{REPORT}"] = report if report.is_file() else write_report(result.folder)
    index = _PAGE.format(
        items="\n".join(_item(address, result) for address, result in zip(pages, results, strict=True))
    )
    try:
        return ThreadingHTTPServer((HOST, port), _handler(pages, index))
    except OSError as error:
        raise ConfigurationError(
            f"The port {port} of {HOST} cannot be used: {error.strerror}. Leave --port out for one that is free."
        ) from error


def _item(address: str, result: FinishedStudy) -> str:
    summary = result.summary
    seeds = f"; seeds {', '.join(map(str, summary.seeds))}" if summary.seeds else ""
    quick = "; a quick run" if summary.quick else ""
    details = escape(f"{summary.subject.name}{seeds}{quick}: {result.counts}")
    return f'<li><a href="{quote(address)}">{escape(summary.title)}</a><small>{details}</small></li>'


def _handler(pages: Mapping[str, Path], index: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers with the index, one of the pages, or nothing."""

        def do_GET(self) -> None:
            """Answer one request."""
            path, host = unquote(urlsplit(self.path).path), self.headers.get("Host", "").partition(":")[0]
            if host not in (HOST, "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN)
            elif path == "/":
                self._answer(index.encode())
            elif path in pages and pages[path].is_file():
                self._answer(pages[path].read_bytes())
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _answer(self, content: bytes) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: the terminal shows the address."""

    return Handler
