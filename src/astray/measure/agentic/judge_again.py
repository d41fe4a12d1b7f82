"""Second judging of samples for which no judge gave a usable verdict; what the subject did stays as it is.

A sample is not played again for that: a judge that fails at harm more often than at harmless work would make the rate
too low. The judged samples are written as a log of their own, beside the one that they come from.
"""

from pathlib import Path

import polars as pl
from inspect_ai import score
from inspect_ai.log import read_eval_log, read_eval_log_samples_by_id, write_eval_log

from astray.judges.metering import metered
from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.scoring import two_keys
from astray.measure.agentic.subjects import AgenticSubject


def judge_again(subject: AgenticSubject, logs: Path, table: pl.DataFrame) -> int:
    """Judge the samples that have no verdict once more, and write them beside their logs.

    Returns:
        How many samples were read again.
    """
    failed = table.filter(pl.col("outcome") == Conduct.JUDGE_FAILED.value)
    for (name,), rows in failed.group_by("log", maintain_order=True):
        path = logs / str(name)
        log = read_eval_log(str(path), header_only=True)
        of = int((log.eval.metadata or {})["grid"]["replicates"])
        # The replicates of a further epoch are numbered after those of the first.
        wanted = [(sample, 1 + replicate // of) for sample, replicate in rows.select("sample", "replicate").iter_rows()]
        log.samples = read_eval_log_samples_by_id(str(path), wanted, resolve_attachments="full")
        graders = {role: metered(model) for role, model in dict(subject.make_graders()).items()}
        judged = score(
            log,
            two_keys(audited=True),
            model=subject.make(),
            model_roles=graders,
            action="overwrite",
            display="none",
            copy=False,
        )
        number = 1 + len(list(logs.glob(f"{path.stem}-judged*")))
        write_eval_log(judged, str(logs / f"{path.stem}-judged{number}.eval"))
    return len(failed)
