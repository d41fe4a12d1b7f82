"""What checks cost: those of loading as a share of loading, and verifying artifacts as a share of the study that made
them.

python benchmarks/checks.py loading [SUBJECT ...]      # processor time; 'organism' and 'smollm2' if none is given
python benchmarks/checks.py verifying STORE SECONDS    # a store of finished steps, and how long its study took
"""

import argparse
import cProfile
import pstats
import subprocess
import sys
import time
from pathlib import Path

CHECKS = {
    # function: file
    "base_identity": "identity.py",
    "template_traits": "identity.py",
    "_check_complete": "weights.py",
    "check_vocabulary": "weights.py",
    "_has_own_code": "weights.py",
    "_template_of": "template.py",
}


def loading(subject: str) -> None:
    """Print how long one subject takes to load in this process, and the share of the checks."""
    from astray.subjects.subject import load_subject

    load_subject("organism-small")  # libraries are imported for whatever is loaded first
    profile = cProfile.Profile(time.process_time)
    begun = time.process_time()
    profile.runcall(load_subject, subject)
    whole = time.process_time() - begun
    parts = {
        name: cumulative
        for (file, _, name), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]
        if CHECKS.get(name) == Path(file).name
    }
    told = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in sorted(parts.items(), key=lambda part: -part[1]))
    print(f"{subject}: loaded in {whole:.2f} s; checks {sum(parts.values()) / whole:.1%} ({told})", flush=True)


def verifying(store: Path, study: float) -> None:
    """Print how long every artifact of a store takes to verify, for the first time in a process and again."""
    from astray.artifacts import Store

    artifacts = Store(store).artifacts()
    size = sum(record.size for each in artifacts for record in each.manifest.files.values())
    for what in ("first", "again"):
        begun = time.process_time()
        for each in artifacts:
            _ = each.path
        took = time.process_time() - begun
        print(
            f"{what}: {len(artifacts)} artifacts, {size / 2**20:,.0f} MiB, {took:.2f} s, {took / study:.2%} of the study"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("loading", "verifying"))
    parser.add_argument("given", nargs="*")
    asked = parser.parse_args()
    if asked.what == "verifying":
        store, seconds = asked.given
        verifying(Path(store), float(seconds))
    elif len(asked.given) == 1:
        loading(asked.given[0])
    else:  # each in a process of its own, so that none finds what another has loaded
        for subject in asked.given or ("organism", "smollm2"):
            subprocess.run([sys.executable, __file__, "loading", subject], check=True)


if __name__ == "__main__":
    main()
