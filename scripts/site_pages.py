"""Write the pages of the documentation site, and check the site that was built of them.

    python scripts/site_pages.py pages build/pages    # docs/ plus what is generated; mkdocs.yml builds the site from there
    python scripts/site_pages.py check build/site     # makes search local; dead links, loads from elsewhere, size

Generated are the reference of the command line (from the commands themselves), the reference of the Python packages
(directives for mkdocstrings, from each package's `__all__`), the gallery (gallery.py), the changelog, the contributor's
guide, and one page for each file of the repository that a page links to, so that the site needs no repository host.
"""

import ast
import html
import os
import posixpath
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

import gallery

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("", "cause", "data", "distil", "explain", "judges", "mitigate", "stats")
"""Packages with public names; "" is astray itself."""
ROOT_PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
"""Page beside docs/ -> its page on the site."""
FENCE = re.compile(r"^(`{3,}).*?^\1$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
PICTURE = re.compile(r'<picture>\s*<source [^>]*srcset="([^"]+)">\s*<img src="([^"]+)"([^>]*)>\s*</picture>')
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "sh"}
NOT_SEARCHED = "---\nsearch: {exclude: true}\n---\n"
"""Heads a page that search does not look into."""
WORKER = ("https://unpkg.com/iframe-worker/shim", "iframe-worker.js")
"""Address that Zensical's offline plugin writes, and the same script within the site."""
LARGEST = 15_000_000
"""Bytes that the site may have."""


def write_pages(folder: Path) -> None:
    """Write all pages into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    sources: set[str] = set()
    for page in sorted((ROOT / "docs").glob("*.md")):
        (folder / page.name).write_text(_linked(page, page.name, sources), encoding="utf-8")
    for name, target in ROOT_PAGES.items():
        if name != "README.md":
            (folder / target).write_text(_linked(ROOT / name, target, sources), encoding="utf-8")
    done: set[str] = set()
    while sources - done:
        name = min(sources - done)
        done.add(name)
        target = folder / _source_page(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_source(name, sources), encoding="utf-8")
    gallery.write_page(folder)
    reference = folder / "reference"
    reference.mkdir()
    (reference / "cli.md").write_text("\n".join(_command_line()), encoding="utf-8")
    (reference / "cli-studies.md").write_text("\n".join(_studies()), encoding="utf-8")
    for package in PACKAGES:
        (reference / f"{package or 'astray'}.md").write_text("\n".join(_package(package)), encoding="utf-8")


def _linked(page: Path, target: str, sources: set[str]) -> str:
    """Return a page with each link to a file outside docs/ led to that file's page on the site, and note the file."""

    def lead(match: re.Match[str]) -> str:
        link = match[2]
        if "://" in link or link.startswith("mailto:"):
            return match[0]
        there = (page.parent / link).resolve().relative_to(ROOT).as_posix()
        if there in ROOT_PAGES:
            new = ROOT_PAGES[there]
        elif there.startswith("docs/"):
            new = there.removeprefix("docs/")
        else:
            sources.add(there)
            new = _source_page(there)
        return match[1] + posixpath.relpath(new, posixpath.dirname(target) or ".") + match[3]

    # On the site the reader may switch colours against the system's, which a picture element follows.
    text = PICTURE.sub(r'<img src="\2#only-light"\3><img src="\1#only-dark"\3>', page.read_text(encoding="utf-8"))
    done, at = "", 0
    for fence in FENCE.finditer(text):
        done += LINK.sub(lead, text[at : fence.start()]) + fence[0]
        at = fence.end()
    return done + LINK.sub(lead, text[at:])


def _source_page(name: str) -> str:
    """Return where a file of the repository stands on the site: as a page, or as plain text, which is smaller."""
    if name.endswith(".md"):
        return f"source/{name}"
    return f"source/{name}.md" if (ROOT / name).is_dir() or name.startswith("examples/") else f"source/{name}.txt"


def _source(name: str, sources: set[str]) -> str:
    """Return the page of a file or folder of the repository."""
    path = ROOT / name
    if path.is_dir():
        files = sorted(one.name for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
        listed = (f"- `{one}`" for one in files)
        return "\n".join([NOT_SEARCHED, f"# {name}", "", "Files in this folder of the repository:", "", *listed])
    if path.suffix == ".md":
        return NOT_SEARCHED + _linked(path, _source_page(name), sources)
    text = path.read_text(encoding="utf-8")
    if _source_page(name).endswith(".txt"):
        return text
    fence = "`" * (1 + max([2, *map(len, re.findall("`+", text))]))
    return f"{NOT_SEARCHED}# {name}\n\n{fence}{LANGUAGES.get(path.suffix, 'text')}\n{text}\n{fence}\n"


def _command_line() -> Iterator[str]:
    """The reference of every command but those of single studies."""
    from astray.cli import app
    from astray.cli.ending import EXIT_CODES

    yield "# Commands\n"
    yield "Generated from the commands themselves; `astray COMMAND --help` prints the same. Exit codes of all commands:\n"
    yield "| exit code | meaning |\n|---|---|"
    yield from (f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    yield ""
    yield from _commands(app, ("astray",))


def _commands(group: click.Group, names: Sequence[str]) -> Iterator[str]:
    from astray.cli.verb import StudyVerb

    context = click.Context(group, info_name=" ".join(names))
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from _heading(command, (*names, name))
        if isinstance(command, StudyVerb):
            yield "These options are common to all studies; each study has [its own](cli-studies.md).\n"
            yield from _table(command.own, click.Context(command))
        elif isinstance(command, click.Group):
            yield from _commands(command, (*names, name))
        else:
            yield from _table(command.params, click.Context(command))


def _heading(command: click.Command, names: Sequence[str]) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(names))
    yield f"## {' '.join(names)}\n"
    yield _plain(command.help or "") + "\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{' '.join(names)} {usage}\n```\n"


def _table(params: Sequence[click.Parameter], context: click.Context) -> Iterator[str]:
    records = [record for param in params if (record := param.get_help_record(context)) and record[1]]
    if records:
        yield "| option | meaning |\n|---|---|"
        yield from (f"| `{name.replace('|', chr(92) + '|')}` | {_plain(text)} |" for name, text in records)
        yield ""


def _studies() -> Iterator[str]:
    """The options of `astray run STUDY`, study by study."""
    from astray.cli.run import COMMAND

    yield "# Options of the studies\n"
    yield "`astray run STUDY` and `astray plan STUDY` take these options. Those of a study file are listed in"
    yield "[Run your own study](../own-study.md).\n"
    context = click.Context(COMMAND)
    for study in COMMAND.list_commands(context):
        command = COMMAND.get_command(context, study)
        assert command is not None
        yield from _heading(command, ("astray", "run", study))
        groups: dict[str, list[click.Parameter]] = {}
        for param in command.params:
            groups.setdefault(getattr(param, "group", "Other"), []).append(param)
        for group, params in groups.items():
            yield f"**{group}**\n"
            yield from _table(params, click.Context(command))


def _plain(text: str) -> str:
    """Return help text as Markdown that shows it literally."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([|*_\[\]`])", r"\\\1", escaped)


def _package(name: str) -> Iterator[str]:
    """The page of a package's public names, as directives for mkdocstrings."""
    module = f"astray.{name}" if name else "astray"
    text = (ROOT / "src" / Path(*module.split(".")) / "__init__.py").read_text(encoding="utf-8")
    yield f"# {module}\n"
    yield f"What `from {module} import ...` offers. The docstrings are those of the source.\n"
    for public in public_names(text):
        yield f"::: {module}.{public}\n"


def public_names(text: str) -> list[str]:
    """Return `__all__` of a module's text."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(getattr(each, "id", "") == "__all__" for each in node.targets):
            return ast.literal_eval(node.value)
    raise ValueError("this module has no __all__")


class _Page(HTMLParser):
    """Collects the anchors of a page, its links, and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag loads, links to, or can be linked by."""
        given = {key: value or "" for key, value in attrs}
        self.anchors |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "src" in given:
            self.loaded.append(given["src"])
        elif tag == "link" and "stylesheet" in given.get("rel", ""):
            self.loaded.append(given["href"])


def localise(site: Path) -> None:
    """Load the script of searching without a server from the site itself: the offline plugin names a CDN."""
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        local = posixpath.relpath(WORKER[1], path.parent.relative_to(site).as_posix())
        path.write_text(text.replace(WORKER[0], local), encoding="utf-8")


def check_site(site: Path) -> list[str]:
    """Return what is wrong with a built site: dead links and anchors, loads from elsewhere, too many bytes."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = _Page()
        pages[path].feed(path.read_text(encoding="utf-8"))
    wrong = [
        f"{path.relative_to(site)} loads {one}" for path, page in pages.items() for one in page.loaded if "//" in one
    ]
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        for link in {*page.links, *page.loaded}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            anchor = unquote(parts.fragment).partition("?")[0]  # a report keeps what it shows behind it
            if not there.is_file() or (anchor and there in pages and anchor not in pages[there].anchors):
                wrong.append(f"{path.relative_to(site)} links to {link}, which is not there")
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    print(f"{len(pages)} pages, {size / 1e6:.1f} MB, {len(wrong)} faults")
    return wrong + [f"the site has {size} bytes, more than {LARGEST}"] * (size > LARGEST)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["pages", folder]:
            write_pages(Path(folder))
        case ["check", folder]:
            localise(Path(folder))
            faults = check_site(Path(folder))
            sys.exit("\n".join(faults) if faults else 0)
        case _:
            sys.exit(__doc__)
