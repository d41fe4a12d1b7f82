"""The documentation site: every page stands in its navigation, every link of a page leads to a page of the site, and the
reference has every command and public name. `make docs` builds it and checks what was built."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import claims_picture
import gallery
import site_pages
from astray.cli.ending import EXIT_CODES

ROOT = Path(__file__).parents[1]


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose tag for a Python object says nothing here."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
SITE = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)


def leaves(nav: object) -> list[str]:
    """The pages of a navigation, in their order."""
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in leaves(part)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "pages"
    site_pages.write_pages(folder)
    return folder


def test_every_page_stands_in_the_navigation_once(pages):
    nav = leaves(SITE["nav"])
    written = {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    assert len(nav) == len(set(nav))
    assert set(nav) == {page for page in written if not page.startswith("source/")}


def test_links_of_the_site_lead_to_its_pages(pages):
    dead = []
    for page in pages.rglob("*.md"):
        text = site_pages.FENCE.sub("", page.read_text(encoding="utf-8"))
        links = [link for _, link, _ in site_pages.LINK.findall(text) if "://" not in link]
        dead += [f"{page.relative_to(pages)}: {link}" for link in links if not (page.parent / link).is_file()]
    assert dead == []


def test_the_reference_has_every_command_and_option(pages):
    from astray.cli import app

    text = (pages / "reference" / "cli.md").read_text(encoding="utf-8")
    assert [name for name in app.commands if f"\n## astray {name}\n" not in text] == []
    assert "`--margin" in text
    studies = (pages / "reference" / "cli-studies.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^## astray run ", studies, re.MULTILINE)) == 5
    assert studies.count("`--seeds INTEGER`") == 4  # acting models are not trained


def test_the_reference_has_every_public_name(pages):
    import astray

    assert site_pages.public_names((ROOT / "src/astray/__init__.py").read_text(encoding="utf-8")) == astray.__all__
    text = (pages / "reference" / "astray.md").read_text(encoding="utf-8")
    assert re.findall(r"^::: astray\.(\w+)$", text, re.MULTILINE) == astray.__all__


def test_nothing_is_loaded_from_elsewhere():
    assert SITE["theme"]["font"] is False
    assert "offline" in SITE["plugins"]
    assert all("//" not in file for file in (*SITE["extra_css"], *SITE.get("extra_javascript", ())))


def test_search_is_local_on_every_page(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.html", "in/b.html"):
        (tmp_path / name).write_text(f'<script src="{site_pages.WORKER[0]}"></script>', encoding="utf-8")
    (tmp_path / "iframe-worker.js").write_text((ROOT / "docs" / "iframe-worker.js").read_text(encoding="utf-8"))
    site_pages.localise(tmp_path)
    assert 'src="../iframe-worker.js"' in (tmp_path / "in" / "b.html").read_text(encoding="utf-8")
    assert site_pages.check_site(tmp_path) == []


FAULTS = {
    '<a href="gone.html">x</a>': "links to gone.html",
    '<a href="#gone">x</a>': "links to #gone",
    '<script src="https://cdn.example/x.js"></script>': "loads https://cdn.example/x.js",
    '<link rel="stylesheet" href="//fonts.example/x.css">': "loads //fonts.example/x.css",
    '<img src="gone.svg">': "links to gone.svg",
}
"""A page's content -> what the check says of it."""


@pytest.mark.parametrize("content", FAULTS)
def test_the_check_of_a_built_site_finds(content, tmp_path):
    (tmp_path / "index.html").write_text(f'<h1 id="here">x</h1><a href="#here">x</a>{content}', encoding="utf-8")
    [fault] = site_pages.check_site(tmp_path)
    assert FAULTS[content] in fault


def test_the_picture_shows_the_figures_of_the_page():
    found = claims_picture.figures(claims_picture.PAGE.read_text(encoding="utf-8"))
    assert claims_picture.PICTURE.read_text(encoding="utf-8") == claims_picture.draw(found)


def test_the_gallery_shows_what_is_stored_and_all_of_it_is_of_this_version(pages):
    made = gallery.read_made()
    stored = [entry for entry in gallery.COMMANDS if entry.name in made]
    assert made == {
        entry.name: {"command": entry.command, "astray": version("astray"), "day": made[entry.name]["day"]}
        for entry in stored
    }
    text = (pages / "gallery.md").read_text(encoding="utf-8")
    listed, *shown = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert listed.splitlines() == [entry.command for entry in gallery.COMMANDS]
    assert [each.strip() for each in shown] == [entry.command for entry in stored]
    for entry in stored:
        assert "Content-Security-Policy" in (pages / "gallery" / f"{entry.name}.html").read_text(encoding="utf-8")
        for picture in re.findall(rf'src="(gallery/{entry.name}[^"#]*)', text):
            assert "</svg>" in (pages / picture).read_text(encoding="utf-8")


def test_what_the_gallery_stores_is_small_and_names_no_folder_of_a_machine():
    files = [path for path in gallery.STORED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4_000_000
    of_machines = re.compile(rb"/(?:home|root|tmp|work|Users)/")
    assert [path.name for path in files if of_machines.search(path.read_bytes())] == []


def test_the_readme_fits_a_screen_and_has_three_doors():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert [door for door in ("model", "tune", "research") if f"](docs/start-{door}.md)" not in text] == []


def test_the_citation_has_the_version_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == project["version"]


def test_the_reference_lists_the_exit_codes(pages):
    text = (pages / "reference" / "cli.md").read_text(encoding="utf-8")
    assert all(f"| {code} | {meaning} |\n" in text for code, meaning in EXIT_CODES.items())
