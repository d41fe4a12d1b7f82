"""Print name, version and licence of each package that Astray requires, and of what these require, as installed here.

    python scripts/licences.py

Ends with exit code 1 where a package names no licence.
"""

import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def required(name: str) -> dict[str, metadata.Distribution]:
    """Return the packages that one needs without its extras, directly or not, by their canonical name."""
    found: dict[str, metadata.Distribution] = {}
    todo = [(name, frozenset[str]())]
    seen = set(todo)
    while todo:
        package, extras = todo.pop()
        try:
            distribution = metadata.distribution(package)
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python
        found[canonicalize_name(package)] = distribution
        for line in distribution.requires or ():
            wish = Requirement(line)
            if wish.marker is None or any(wish.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                one = (canonicalize_name(wish.name), frozenset(wish.extras))
                todo += [] if one in seen else [one]
                seen.add(one)
    return found


def licence(distribution: metadata.Distribution) -> str:
    """Return a package's licence: the SPDX expression, else its classifiers, else the first line of its text."""
    about = distribution.metadata
    classified = [each.split(" :: ")[-1] for each in about.get_all("Classifier") or () if each.startswith("License ::")]
    files = [file.read_text(encoding="utf-8") for file in distribution.files or () if "licenses/" in file.as_posix()]
    lines = [line for text in (about.get("License") or "", *files) for line in text.splitlines() if line.strip()]
    return about.get("License-Expression") or ", ".join(classified) or (lines[0].strip()[:80] if lines else "")


if __name__ == "__main__":
    packages = {name: one for name, one in sorted(required("astray").items()) if name != "astray"}
    for name, one in packages.items():
        print(f"{name:36} {one.version:24} {licence(one) or 'names no licence'}")
    nameless = [name for name, one in packages.items() if not licence(one)]
    print(f"\n{len(packages)} packages; {len(nameless)} name no licence" + "".join(f"\n  {name}" for name in nameless))
    sys.exit(bool(nameless))
