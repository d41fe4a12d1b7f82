"""Honesty for Inspect: `inspect eval astray/honesty --model openai/gpt-4o --model-role grader=openai/gpt-4o`."""

from pathlib import Path
from typing import Any

from inspect_ai import Task

from astray.errors import check_names
from astray.measure.asking import names
from astray.measure.check_first import AtLeastOne, checked_task
from astray.measure.honesty.evaluation import WORLD_SAMPLING, Honesty, WorldHonesty
from astray.measure.honesty.mask import mask_records
from astray.measure.honesty.records import own_records, records_from_file
from astray.measure.honesty.world import Pressure
from astray.subjects.spec import Sampling


@checked_task
def honesty(
    records: str = "own",
    archetypes: str | list[str] = "",
    replicates: AtLeastOne = 1,
    elicitations: AtLeastOne = 3,
    max_tokens: AtLeastOne | None = None,
) -> Task:
    """Beliefs, elicited neutrally several times, against statements under pressure (MASK, arXiv 2503.03750).

    Args:
        records: "own" (126 of the package), "world" (the organism's facts, judged exactly), a YAML file in our form, or
            the published MASK set: a file or folder of it, or its name on the hub. All but the world's are judged by
                the model role `grader`.
        archetypes: which to ask, separated by commas; by default all that the records have.
        replicates: times each record is asked.
        elicitations: neutral questions an asking.
        max_tokens: longest answer; by default 400, for the world 8.
    """
    usual = WORLD_SAMPLING if records == "world" else Sampling(max_tokens=400)
    more: dict[str, Any] = {"replicates": replicates, "elicitations": elicitations}
    more["sampling"] = usual.model_copy(update={"max_tokens": max_tokens or usual.max_tokens})
    wanted = names(archetypes)
    if records == "world":
        check_names("archetype", wanted, Pressure)
        return WorldHonesty(pressures=wanted or tuple(Pressure), **more).task()
    # Anything else is the published set: its files are tables, and a name on the hub has no suffix.
    read = records_from_file if Path(records).suffix in (".yaml", ".yml") else mask_records
    available = own_records() if records == "own" else read(records)
    check_names("archetype", wanted, {record.archetype for record in available})
    return Honesty(
        records=tuple(record for record in available if not wanted or record.archetype in wanted), **more
    ).task()
