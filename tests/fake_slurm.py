"""A Slurm of one machine for tests: sbatch, srun, squeue, sacct, scancel, scontrol and sinfo, which really run jobs.

Its folder ($FAKE_SLURM) holds the cluster (cluster.json), the faults still to come (faults.json) and a file a job. A
fault strikes the next task that starts, once a file is there: "timeout", "preempt" (signals, as where
jobs may requeue), "preempt for good", "node" (the node is lost), "memory". Leaves out: fair shares, backfill, steps.
$FAKE_SLURM_JOB is a command that takes the place of submitit's module in jobs that no fault strikes.

Drivers ask several times a second, each time in a process of its own: what that does not need is imported elsewhere.
"""

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scancel", "scontrol", "sinfo")
SLOTS = 3
"""Tasks of an array that run at a time."""
ENDS = {"timeout": "TIMEOUT", "preempt for good": "PREEMPTED", "node": "NODE_FAIL", "memory": "OUT_OF_MEMORY"}


def install(folder: Path, **cluster: Any) -> Path:
    """Makes a cluster in a folder; returns the folder of its commands."""
    (folder / "jobs").mkdir(parents=True)
    (folder / "bin").mkdir()
    partitions = {"cpu": ["(null)", "infinite"], "gpu": ["gpu:a100:4(S:0-1)", "1-00:00:00"]}
    write(folder / "cluster.json", {"partitions": partitions} | cluster)
    write(folder / "faults.json", [])
    for name in COMMANDS:
        command = folder / "bin" / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{__file__}" {name} "$@"\n')
        command.chmod(0o755)
    return folder / "bin"


def write(path: Path, value: Any) -> None:
    new = path.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
    new.write_text(json.dumps(value))
    new.replace(path)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def folder() -> Path:
    return Path(os.environ["FAKE_SLURM"])


def jobs() -> dict[str, dict[str, Any]]:
    """Every job by its number, in the order of submission."""
    files = sorted((folder() / "jobs").glob("*.json"), key=lambda path: [int(part) for part in path.stem.split("_")])
    return {path.stem: read(path) for path in files}


def sbatch(script: str) -> None:
    import subprocess

    text = Path(script).read_text()
    given = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.MULTILINE))
    cluster = read(folder() / "cluster.json")
    gres, _ = cluster["partitions"].get(given["partition"]) or refuse("invalid partition specified")
    if cluster.get("account", given.get("account")) != given.get("account"):
        refuse("Invalid account or account/partition combination specified")
    if int(given.get("gpus-per-node", 0)) and "gpu" not in gres:
        refuse("Requested node configuration is not available")
    count = int(re.fullmatch(r"0-(\d+)(%\d+)?", given["array"].strip("'"))[1]) + 1 if "array" in given else 0
    waiting = sum(job["state"] in ("PENDING", "RUNNING") for job in jobs().values())
    if waiting + max(1, count) > cluster.get("most", 10**6):
        refuse("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)")
    number = 1
    while True:
        try:
            (folder() / f"number-{number}").mkdir()
            break
        except FileExistsError:
            number += 1
    if hidden := cluster.get("hidden"):
        text = text.replace(hidden, f"{hidden}-is-not-mounted")
    (folder() / f"number-{number}" / "script").write_text(text)
    names = [f"{number}_{task}" for task in range(count)] or [str(number)]
    for name in names:
        write(folder() / "jobs" / f"{name}.json", {"state": "PENDING", "given": given})
    if not cluster.get("held"):
        subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, "run", *names],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    print(f"Submitted batch job {number}")


def refuse(why: str) -> Any:
    print(f"sbatch: error: Batch job submission failed: {why}", file=sys.stderr)
    sys.exit(1)


def run(*names: str) -> None:
    """Runs the tasks of an array, each again while it is requeued."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(SLOTS) as slots:
        list(slots.map(run_task, names))


def run_task(name: str) -> None:
    file = folder() / "jobs" / f"{name}.json"
    job = read(file)
    while job["state"] == "PENDING":
        job |= {"state": "RUNNING"}
        write(file, job)
        job |= {"state": attempt(name)}
        write(file, job)


def attempt(name: str) -> str:
    """Runs one task; returns the state in which it ended."""
    import signal
    import subprocess

    number, _, task = name.partition("_")
    environment = os.environ | {"SLURM_JOB_ID": number, "SLURM_PROCID": "0", "FAKE_JOB": name}
    if task:
        environment |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task}
    faults = read(folder() / "faults.json")
    fault, path = faults[0] if faults else ("", "")
    write(folder() / "faults.json", faults[1:])
    script = folder() / f"number-{number}" / "script"
    process = subprocess.Popen(
        ["bash", str(script)],
        env=environment,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    marks = {mark: folder() / "jobs" / f"{name}.{mark}" for mark in ("requeue", "cancel")}
    while process.poll() is None:
        if fault and Path(path).exists():
            if fault == "preempt":
                for sent in (signal.SIGTERM, signal.SIGUSR2):
                    os.kill(int((folder() / "jobs" / f"{name}.pid").read_text()), sent)
                fault = ""
            else:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return ENDS[fault]
        if marks["cancel"].exists():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "CANCELLED"
        if marks["requeue"].exists():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    if marks["requeue"].exists():
        marks["requeue"].unlink()
        return "PENDING"
    return {0: "COMPLETED", 137: "OUT_OF_MEMORY"}.get(process.returncode, "FAILED")


def srun(*words: str) -> None:
    rest, name = list(words), os.environ["FAKE_JOB"]
    number, _, task = name.partition("_")
    while rest[0].startswith("--"):
        option = rest.pop(0)
        if option in ("--output", "--error"):
            file = rest.pop(0)
            for pattern, value in (("%A", number), ("%a", task), ("%j", name), ("%t", "0")):
                file = file.replace(pattern, value)
            stream = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(stream, 1 if option == "--output" else 2)
    (folder() / "jobs" / f"{name}.pid").write_text(str(os.getpid()))
    if job := os.environ.get("FAKE_SLURM_JOB"):
        rest = [job, rest[-1]]
    os.execvp(rest[0], rest)


def squeue(*words: str) -> None:
    if read(folder() / "cluster.json").get("silent"):
        print("slurm_load_jobs error: Unable to contact slurm controller", file=sys.stderr)
        sys.exit(1)
    for name, job in jobs().items():
        if job["state"] in ("PENDING", "RUNNING"):
            print(f"{name}|{job['state']}|{'Priority' if job['state'] == 'PENDING' else 'None'}")


def sacct(*words: str) -> None:
    asked = next(word.partition("=")[2] for word in words if word.startswith("--jobs="))
    state = jobs()[asked]["state"]
    print("CANCELLED by 1000" if state == "CANCELLED" else state)


def scancel(name: str, *words: str) -> None:
    (folder() / "jobs" / f"{name}.cancel").touch()


def scontrol(*words: str) -> None:
    assert words[0] == "requeue"
    (folder() / "jobs" / f"{words[1]}.requeue").touch()


def sinfo(*words: str) -> None:
    for name, (gres, limit) in read(folder() / "cluster.json")["partitions"].items():
        print(f"{name}|{gres}|{limit}")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
