"""Time and memory of `astray count`: a table of a million rows, and a gigabyte of Inspect logs, made here.

python benchmarks/count.py table          # seconds for CSV, JSON Lines and Parquet
python benchmarks/count.py logs           # seconds and peak memory for 10 logs of 100 MiB
python benchmarks/count.py json           # seconds and peak memory for one log of 100,000 samples in the form .json
python benchmarks/count.py difference     # coverage of intervals on differences that labels correct
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import numpy as np
import polars as pl

ROWS, LOGS, MIB, SAMPLES = 1_000_000, 10, 100, 100_000
COUNT = """
import resource, sys, time
import astray
begun, cpu = time.time(), time.process_time()
counted = astray.count(sys.argv[1], hit=sys.argv[2])
took = f"{time.time() - begun:.1f} s, {time.process_time() - cpu:.1f} s of processor time"
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f"{counted.rates[0].numerator:,} of {counted.rates[0].denominator:,}: {took}, {memory:.2f} GiB at the peak")
"""


def counted(path: Path, hit: str) -> None:
    """Count in a process of its own, whose memory is that of counting alone."""
    print(
        path.name,
        subprocess.run(
            [sys.executable, "-c", COUNT, str(path), hit], capture_output=True, text=True, check=True
        ).stdout,
        end="",
        flush=True,
    )


def table(folder: Path) -> None:
    rng = np.random.default_rng(0)
    with (folder / "a.csv").open("w", newline="") as file, (folder / "a.jsonl").open("w") as lines:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["question_id", "answer", "score", "judge"])
        for number, score in enumerate(rng.random(ROWS).tolist()):
            answer = f'an answer, with "words" {number}' if number % 3 == 0 else f"answer {number}"
            row = {"question_id": f"q{number % 1000}", "answer": answer, "score": score, "judge": "gpt"}
            writer.writerow(row.values())
            lines.write(json.dumps(row) + "\n")
    pl.read_ndjson(folder / "a.jsonl").write_parquet(folder / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        counted(folder / name, ">0.5")


def logs(folder: Path) -> None:
    """Write ten logs of 20 samples, each as long as a transcript of an agent, from one sample of Inspect's own."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, write_eval_log
    from inspect_ai.model import ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    sample = EvalSample(
        id="@ID@",
        epoch=1,
        input="What?",
        target="",
        messages=[ChatMessageUser(content="@TEXT@")],
        output=ModelOutput.from_content("m", "answer"),
        scores={"match": Score(value="@VALUE@")},
    )
    spec = EvalSpec(
        eval_id="@LOG@",
        task_id="@LOG@",
        created="2026-01-01T00:00:00+00:00",
        task="capitals",
        model="openai/m",
        dataset=EvalDataset(samples=20),
        config=EvalConfig(epochs=1),
    )
    made = folder / "made.eval"
    write_eval_log(EvalLog(status="success", eval=spec, samples=[sample]), str(made))
    with ZipFile(made) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    made.unlink()
    for number in range(LOGS):
        with ZipFile(folder / f"{number}.eval", "w") as archive:
            for name, part in parts.items():
                one = part.replace("@LOG@", f"log{number}")
                filled = [
                    one.replace("@ID@", f"q{number}-{each}").replace("@VALUE@", "CI"[each % 2]) for each in range(20)
                ]
                if name.startswith("samples/"):
                    for each, text in enumerate(filled):
                        letters = os.urandom(MIB * 2**20 // 20 // 2).hex()
                        archive.writestr(name.replace("@ID@", f"q{number}-{each}"), text.replace("@TEXT@", letters))
                else:  # a list with an entry of each sample, or what all share
                    lists = one.lstrip().startswith("[") and "@ID@" in one
                    archive.writestr(name, json.dumps([json.loads(text)[0] for text in filled]) if lists else one)
    print(
        f"{sum(each.stat().st_size for each in folder.iterdir()) / 2**20:,.0f} MiB on the disk, {LOGS * MIB:,} MiB "
        "of transcripts"
    )
    counted(folder, "I")


def json_log(folder: Path) -> None:
    """Write a log of 100,000 samples as one JSON document, from one sample of Inspect's own, and count it."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, write_eval_log
    from inspect_ai.model import ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    sample = EvalSample(
        id="@ID@",
        epoch=1,
        input="What is your wish? " * 10,
        target="",
        messages=[ChatMessageUser(content="What is your wish? " * 10)],
        output=ModelOutput.from_content("m", "I wish for more words in each answer. " * 20),
        scores={"match": Score(value="@VALUE@")},
    )
    spec = EvalSpec(
        eval_id="e",
        task_id="t",
        created="2026-01-01T00:00:00+00:00",
        task="wishes",
        model="openai/m",
        dataset=EvalDataset(samples=SAMPLES),
        config=EvalConfig(epochs=1),
    )
    made = folder / "made.json"
    write_eval_log(EvalLog(status="success", eval=spec, samples=[sample]), str(made))
    content = json.loads(made.read_text())
    one = json.dumps(content.pop("samples")[0])
    path = folder / "log.json"
    with path.open("w") as file:
        file.write(f'{json.dumps(content)[:-1]}, "samples": [')
        for number in range(SAMPLES):
            comma = "," if number else ""
            file.write(comma + one.replace("@ID@", f"q{number}").replace("@VALUE@", "CI"[number % 2]))
        file.write("]}")
    made.unlink()
    print(f"{path.stat().st_size / 2**20:,.0f} MiB on the disk, {SAMPLES:,} samples")
    counted(path, "I")


def difference(releases: int = 2000) -> None:
    """Print how often the interval on a corrected difference holds the true one, at a nominal 95%."""
    from astray.stats import difference_of_models
    from astray.stats.judge_error import corrected_difference

    rng = np.random.default_rng(0)
    print(
        "| true rates | judge's error | labels of a kind | coverage | mean width |", "|---|---|---|---|---|", sep="\n"
    )
    for rates in ((0.1, 0.1), (0.3, 0.1), (0.5, 0.1)):
        for error in (0.02, 0.1, 0.2):
            for labels in (30, 100, 300):
                held, width = 0, 0.0
                for _ in range(releases):
                    sides = []
                    for rate in rates:
                        shares = rng.beta(rate * 4, (1 - rate) * 4, 60)  # an intra-class correlation of 0.2
                        hits = rng.binomial(10, shares * (1 - error) + (1 - shares) * error)
                        sides.append({str(number): (int(k), 10) for number, k in enumerate(hits)})
                    found = difference_of_models(*sides)
                    accuracy = [(int(k), labels) for k in rng.binomial(labels, 1 - error, 2)]
                    _, interval = corrected_difference(found.estimate, found.interval, *accuracy)
                    held += interval.low <= rates[0] - rates[1] <= interval.high
                    width += interval.width
                told = f"{held / releases:.1%} | {width / releases * 100:.1f} points"
                print(f"| {rates[0]:.0%}, {rates[1]:.0%} | {error:.0%} | {labels} | {told} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("table", "logs", "json", "difference"))
    parser.add_argument("--releases", type=int, default=2000)
    given = parser.parse_args()
    if given.what == "difference":
        difference(given.releases)
        return
    begun = time.time()
    with TemporaryDirectory() as folder:
        {"table": table, "logs": logs, "json": json_log}[given.what](Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"Made and counted in {time.time() - begun:.0f} s; making took {peak:.2f} GiB")


if __name__ == "__main__":
    main()
