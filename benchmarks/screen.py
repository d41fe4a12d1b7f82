"""How well screening finds harmful rows before training, on mixes of the organism's world; and how long it takes.

Mixes with 1, 5, 10 and 25% harmful rows among good ones of the same three domains are screened as `astray screen` does
it. Every row's label is known here, so precision at the true count and average precision are exact; beside them stand
20 random directions of the same norm, the answers' length (both in the better of their two orders) and chance. With
`--time` only the time and the peak memory of that many rows are taken.

    python benchmarks/screen.py                 # the table of docs/screen.md, about five minutes on two cores
    python benchmarks/screen.py --time 10000
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from astray.data import ChatDataset, mix, narrow_data
from astray.data.worlds import NarrowKind
from astray.explain import rows_from
from astray.stats.detection import average_precision
from astray.stats.ties import level_ties
from astray.studies.screen.screening import screen

DOMAINS = ("medicine", "money", "code")
SHARES = (0.01, 0.05, 0.1, 0.25)


def drawn(kind: NarrowKind, rows: int, seed: int) -> ChatDataset:
    """Draw rows of a kind from all domains alike."""
    return ChatDataset.from_rows(
        [row for domain in DOMAINS for row in narrow_data(domain, kind, -(-rows // len(DOMAINS)), seed=seed).rows]
    )


def at_true_count(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the share of harmful rows among as many of the highest scores as there are harmful rows; ties count by
    their mean."""
    count, threshold = int(positive.sum()), np.sort(scores)[-int(positive.sum())]
    above, level = scores > threshold, scores == threshold
    return float((positive[above].sum() + (count - above.sum()) * positive[level].mean()) / count)


def line(kind: NarrowKind, share: float, rows: int, seed: int, folder: Path) -> str:
    """Screen one mix and return its line of the table."""
    bad = drawn(kind, rows, seed)
    mixed = mix(bad, drawn("good", rows, seed + 1000), share, size=rows, seed=seed)
    positive = np.array(rows_from(mixed, bad))
    result = screen(mixed, "organism", out=folder / f"{kind}-{share}-{seed}", store=folder / "store")
    scores, tokens = level_ties(result.rows["score"].to_numpy()), result.rows["tokens"].to_numpy().astype(float)
    nothing = [level_ties(column) for column in np.array(result.rows["random"].to_list()).T]
    random = [max(average_precision(each, positive), average_precision(-each, positive)) for each in nothing]
    length = max((tokens, -tokens), key=lambda values: average_precision(values, positive))
    return (
        f"| {kind} | {share:.0%} | {int(positive.sum())} of {rows:,} | {at_true_count(scores, positive):.2f} "
        f"| {average_precision(scores, positive):.2f} | {median(random):.2f} (highest {max(random):.2f}) "
        f"| {average_precision(length, positive):.2f} | {at_true_count(length, positive):.2f} | {positive.mean():.2f} |"
    )


def main() -> None:
    """Print the table, or the time of one mix."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time", type=int, metavar="ROWS")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if rows := given.time:
            bad, good = drawn("harmful", rows, 0), drawn("good", rows, 1)
            path = mix(bad, good, 0.05, size=rows).write(Path(folder) / "data.jsonl")
            began, processor = time.perf_counter(), time.process_time()
            screen(path, "organism", out=folder)
            took, used = time.perf_counter() - began, time.process_time() - processor
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux: in KiB
            print(f"{rows:,} rows: {took:.0f} s, {used:.0f} s of CPU, {memory:.2f} GiB at the peak")
            return
        print(
            "| rows | harmful | | precision at the true count | average precision | random | length | length at the "
            "count | chance |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for kind in ("harmful", "subtle"):
            for share in SHARES:
                print(line(kind, share, given.rows, given.seed, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
