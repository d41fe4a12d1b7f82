"""Scheduling: steps without work on workers and on Ray, a million planned steps, a large store, a large study simulated.

Run `python benchmarks/scheduling.py`, or with some of the names below; targets stand beside each number.
"""

import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))

from astray.artifacts import Step, Store, execute
from astray.artifacts.plan import Plan
from astray.artifacts.workplaces.ray import Ray
from astray.engine.forecast.places import simulate
from noop_step import Number, noop

STEPS, PLANNED, KEPT, LOOKED_UP = 10_000, 1_000_000, 100_000, 1_000
ARMS, SEEDS = 1_000, 5
TRAIN, ANSWER, JUDGE, DATA = 1_500.0, 240.0, 60.0, 5.0
"""Seconds of the steps of a run of a 7B model: assumed, in the proportions that the runs of SmolLM2 have."""


def many(count: int) -> list[Step]:
    return [noop.step(Number(number=number)) for number in range(count)]


def workers() -> None:
    with TemporaryDirectory() as folder:
        report("10,000 steps without work, worker processes", lambda: execute(many(STEPS), Store(folder)), 20)


def ray() -> None:
    import ray as library

    library.init(log_to_driver=False, include_dashboard=False)
    with TemporaryDirectory() as folder:
        report("10,000 steps without work, Ray", lambda: execute(many(STEPS), Store(folder), on=Ray()), 60)
    library.shutdown()


def planned() -> None:
    """Chains of four steps, as runs have them; memory is looked at while they are gone through."""
    begin = cpu()
    ends = []
    for number in range(PLANNED // 4):
        step = noop.step(Number(number=4 * number))
        for further in range(1, 4):
            step = noop.step(Number(number=4 * number + further), before=step)
        ends.append(step)
    made = cpu() - begin
    with TemporaryDirectory() as folder:
        plan = Plan(ends, Store(folder))
    whole = cpu() - begin
    print(
        f"1,000,000 steps made in {made:.1f} s of a processor and planned in {whole - made:.1f} s; target 60 s for both"
    )
    before = peak()
    while step := plan.next():
        plan.finished(step.key)
    print(f"memory {before / 2**30:.2f} GB when planned, {peak() / 2**30:.2f} GB at most until all were finished")


def store() -> None:
    """A finished study of 1,000 steps in a store of 100,000 artifacts, each found from one listing."""
    with TemporaryDirectory() as folder:
        kept = Store(folder)
        steps = many(LOOKED_UP)
        execute(steps, kept, workers=0)
        for number in range(KEPT - LOOKED_UP):
            (kept.folder / f"other-{number:016x}").mkdir()
        report(
            "finished study of 1,000 steps in a store of 100,000 artifacts", lambda: execute(steps, kept, workers=0), 2
        )


def objects() -> None:
    """The same on a local server that speaks S3, with the 126 steps of emergent-misalignment at two seeds."""
    import boto3
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"}
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    boto3.client("s3").create_bucket(Bucket="runs")
    for number in range(KEPT):
        s3_backends["123456789012"]["aws"].put_object("runs", f"other-{number:016x}/artifact.json", b"{}")
    with TemporaryDirectory() as folder:
        steps = many(126)
        execute(steps, Store("s3://runs", cache=Path(folder)), workers=0)
        again = Store("s3://runs", cache=Path(folder) / "other")
        report("finished study of 126 steps among 100,000 in a bucket", lambda: execute(steps, again, workers=0), 2)
    server.stop()


def simulated() -> None:
    """1,000 arms with 5 seeds: data, training, answers, verdicts; efficiency is the work by GPU time."""
    seconds: dict[str, float] = {}
    ends = []
    for number in range(ARMS * SEEDS):
        chain: Step | None = None
        for part, took in enumerate((DATA, TRAIN, ANSWER, JUDGE)):
            config = Number(number=10 * number + part)
            chain = noop.step(config, before=chain) if chain else noop.step(config)
            seconds[chain.key] = took
        ends.append(chain)
    with TemporaryDirectory() as folder:
        for gpus in (64, 256, 1024):
            wall = simulate(Plan(ends, Store(folder)), seconds, gpus)
            print(
                f"1,000 arms x 5 seeds on {gpus:,} GPUs: efficiency {sum(seconds.values()) / gpus / wall:.1%}; target 90%"
            )


def report(what: str, run: Callable[[], object], target: float) -> None:
    """Tell the wall time, and the time of the processors, which other load of the machine does not lengthen."""
    begin, before = time.perf_counter(), cpu()
    run()
    took = f"{time.perf_counter() - begin:.1f} s, {cpu() - before:.1f} s of processors"
    print(f"{what}: {took} ({os.cpu_count()} of them, load {os.getloadavg()[0]:.0f}); target {target:g} s", flush=True)


def cpu() -> float:
    """Processor seconds of this process and of those that it started and that ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


PARTS = {"workers": workers, "ray": ray, "planned": planned, "store": store, "objects": objects, "simulated": simulated}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
