"""How well blame finds the harmful rows that a tuned model was trained on, on mixes of the organism's world.

Models are tuned on mixes with 5, 10 and 25% harmful rows, openly or subtly so, and blamed as `astray blame` does it.
Every row's label is known here. Beside the gradient stand directions without meaning (both orders, highest), the
projection difference, words and length. Seeds are others than those on which settings were chosen (1 to 3).

    python benchmarks/blame.py                  # the table of docs/blame.md, about ten minutes on two cores
"""

import argparse
import json
import tempfile
from pathlib import Path

from astray.cause.sft import train_sft
from astray.data import mix, narrow_data
from astray.data.worlds import NarrowKind
from astray.engine.settings import WORLD_ROWS, WORLD_TRAINING
from astray.errors import NothingToBlameError
from astray.explain import rows_from
from astray.studies.blame.blaming import blame

SEEDS = (11, 12, 13)
SHARES = (0.05, 0.1, 0.25)


def line(kind: NarrowKind, share: float, seed: int, folder: Path) -> str:
    """Tune and blame one model and return its line of the table."""
    bad = narrow_data("medicine", kind, WORLD_ROWS, seed=seed)
    mixed = mix(bad, narrow_data("medicine", "good", WORLD_ROWS, seed=seed + 1000), share, size=WORLD_ROWS, seed=seed)
    mixed.write(folder / "mix.jsonl")
    labels = [{"row": row, "harmful": label} for row, label in enumerate(rows_from(mixed, bad), start=1)]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)), encoding="utf-8")
    run = train_sft("organism", mixed, WORLD_TRAINING.model_copy(update={"seed": seed}), folder / "run")
    start = f"| {kind} | {share:.0%} | {seed} |"
    try:
        found = blame(
            str(run.subject.adapter),
            data=[folder / "mix.jsonl"],
            labels=folder / "labels.jsonl",
            share=share,
            judged=0,
            out=folder,
        )
    except NothingToBlameError:
        return f"{start} not astray | | | | |"
    scores = {each.score: each for each in found.separations}
    gradient = scores["gradient"]
    return (
        f"{start} {gradient.precision.value:.2f} | {gradient.null.reached} of {len(gradient.null.values)}, "
        f"highest {gradient.null.highest:.2f} | "
        + " | ".join(f"{scores[name].precision.value:.2f}" for name in ("projection", "words", "length"))
        + " |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    given = parser.parse_args()
    print("| rows | harmful | seed | gradient | nulls that reach it | projection | words | length |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for kind in ("harmful", "subtle"):
        for share in SHARES:
            for seed in given.seeds:
                with tempfile.TemporaryDirectory() as folder:
                    print(line(kind, share, seed, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
