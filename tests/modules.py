"""The modules of the package as a graph: what each imports, at its top or within functions, and what the documentation
imports."""

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((SOURCE / "astray").rglob("*.py"))
}
"""Name of a module -> its file."""
BY_PLACE = {
    # a scenario's scoring.py is found in its folder
    "astray.measure.agentic.scenario": "astray.measure.agentic.scenarios.",
    "astray.sandbox.bubblewrap": "astray.sandbox.inside.",  # mounted into the sandbox, and imported there by name
}
"""Module -> beginning of the names of the modules that it finds by their place."""


def is_package(name: str) -> bool:
    return MODULES[name].name == "__init__.py"


@cache
def blocks_of_docs() -> dict[str, str]:
    """Page or example -> its Python."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    block = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    found = {page.name: "\n".join(block.findall(page.read_text(encoding="utf-8"))) for page in pages}
    return found | {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").glob("*.py"))}


def sources(text: str) -> set[str]:
    """The modules that a Python text imports from; a name of a package counts for the module that the package has it
    from."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            found |= {home(node.module, name.name) for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name in MODULES}
        elif isinstance(node, ast.Constant) and node.value in MODULES:  # as in the table of studies
            found.add(node.value)
    return found


def home(module: str, name: str) -> str:
    """The module that holds a name which another is asked for."""
    if (module, name) in exports():
        return home(*exports()[module, name])
    return f"{module}.{name}" if f"{module}.{name}" in MODULES else module


@cache
def exports() -> dict[tuple[str, str], tuple[str, str]]:
    """Package and name -> where the package imports it from, and under which name."""
    return {
        (package, name.asname or name.name): (node.module, name.name)
        for package in filter(is_package, MODULES)
        for node in ast.walk(ast.parse(MODULES[package].read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module in MODULES
        for name in node.names
    }


def reached_from(roots: Iterable[str]) -> set[str]:
    """The modules that are imported by these, by what they import, and so on; a package's own imports count when a name
    of it is used."""
    reached: set[str] = set()
    todo = set(roots)
    while todo:
        module = todo.pop()
        reached.add(module)
        found = sources(MODULES[module].read_text(encoding="utf-8"))
        if module in BY_PLACE:
            found |= {name for name in MODULES if name.startswith(BY_PLACE[module])}
        todo |= found - reached
    return reached
