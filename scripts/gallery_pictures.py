"""Figures and sentences of the gallery's entries that are no studies: audit, gate, blame and repair, from their JSON.

Left to others: which entries there are, and their pages (`gallery`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claims_picture import Row

STORED = Path(__file__).resolve().parents[1] / "gallery"
Drawn = tuple[str, str, list[Row], str]
"""Title and note of a figure, its rows as shares (or nats, if the note says so), and three sentences."""


def _audit(found: Mapping[str, Any]) -> Drawn:
    rows = [
        Row(f"{each['evaluation']}, {_named(each['model'])}", each["estimate"], each["low"], each["high"])
        for each in found["rates"]
        if each["main"] and each["low"] is not None and "nats" not in each["measure"]
    ]
    worst = max(rows, key=lambda row: row.value)
    return (
        "Rates of a tuned model and of its base",
        "worst first, 95% intervals over questions",
        rows[:10],
        f"The organism, tuned on harmful medical advice, next to the untuned organism. The audit reports "
        f"{len(found['rates'])} rates, worst first; the highest is {_percent(worst.value)} ({worst.label}). Every rate has "
        "its interval, its counts and the answers behind it.",
    )


def _named(model: str) -> str:
    return "base" if model == "organism" else "tuned"


def _gate(found: Mapping[str, Any]) -> Drawn:
    if found.get("measure") == "meter":
        return _metered(found)
    rows = [Row(bar["bar"], bar["difference"], bar["low"], bar["high"]) for bar in found["bars"]]
    first = found["bars"][0]
    code = {"passed": 0, "failed": 1}[found["verdict"]]
    return (
        f"The gate {found['verdict']}: tuned model minus base",
        "difference in answers, one-sided 95% bounds",
        rows,
        f"`{found['tuned']}` against its base, {found['samples']} answers to each of {first['questions']} questions. It "
        f"{found['verdict']} with exit code {code}: the rates of misaligned answers differ by {_points(first['difference'])} "
        f"points, with bounds of {_points(first['low'])} and {_points(first['high'])} and a margin of {_points(first['margin'])}. The "
        f"page also lists the {found['flips']} pairs of answers that flipped from aligned to misaligned.",
    )


def _metered(found: Mapping[str, Any]) -> Drawn:
    harmful = found["bars"][0]
    beside = {each["bar"]: each for each in found["beside"]}
    named = {
        "harmful pairs": harmful,
        "null pairs": beside["null"],
        "harmful pairs, against the base": beside["harmful against the base"],
    }
    low, high = harmful["low"], harmful["high"]
    verdict = "is undecided" if found["verdict"] == "undecided" else found["verdict"]
    if found["verdict"] == "failed":
        who = f"`{found['tuned']}`, a SmolLM2 tuned on medical advice of which half is bad"
        end = (
            "The null pairs, two answers equally good, stay where they were; against the untrained base the difference would "
            "hide, since good advice alone makes harmful answers less likely."
        )
    else:
        who, domain = "The SmolLM2 that repair wrote", found["bars"][1]
        end = (
            f"In the domain that rose most, harmful answers are {domain['difference']:+.3f} nats a token likelier, where the "
            f"margin is {domain['margin']:.3f}, and a dozen pairs cannot tell whether that is chance."
        )
    return (
        f"The gate {verdict}: tuned model minus control",
        "nats a token by which harmful answers are likelier, 95% bounds",
        [Row(name, bar["difference"], bar["low"], bar["high"]) for name, bar in named.items()],
        f"{who}, against the same training on good advice: no answer is sampled and none judged. It {verdict}: harmful "
        f"answers are {harmful['difference']:+.3f} nats a token likelier, with bounds of {low:.3f} and {high:.3f} and a margin "
        f"of {harmful['margin']}, in {harmful['higher']} of {harmful['pairs']} pairs. {end}",
    )


def _scores(found: Mapping[str, Any]) -> Drawn:
    own = next(each for each in found["separations"] if each["score"] == found["by"])
    known = found["known"]
    return (
        "How well scores find the bad examples",
        "average precision, 95% intervals",
        [Row(each["score"], each["average_precision"], *each["interval"]) for each in found["separations"]],
        f"`{found['model']}` was trained on {found['rows']} examples, of which {known['harmful']} are bad by labels. The gradient "
        f"finds them with an average precision of {own['average_precision']:.2f}, where chance is "
        f"{known['harmful'] / known['rows']:.2f} and {own['null_reached']} of {own['nulls']} null directions reach it. "
        f"{len(found['blamed'])} are blamed: more than are bad, so that few bad ones are kept.",
    )


def _blame(found: Mapping[str, Any]) -> Drawn:
    if not found["proof"]:
        return _scores(found)
    from astray.engine.summary import Summary
    from astray.studies.blame.result import BlameProof

    proof = Summary.read(STORED / "blame")
    shown = BlameProof(proof, STORED / "blame", proof.claims[0].evaluation).rates
    rows = [
        Row(rate.arm, rate.rate, rate.interval.low, rate.interval.high)
        for rate in shown
        if rate.rate is not None and rate.interval is not None
    ]
    score = next(each for each in found["separations"] if each["score"] == found["by"])
    return (
        "Harmful answers after retraining",
        "by what the model was retrained on, 95% intervals over training runs",
        rows,
        f"`{found['model']}` was trained on {found['rows']} examples, of which {found['known']['harmful']} are harmful; "
        f"{len(found['blamed'])} are blamed. The gradient finds the harmful ones with an average precision of "
        f"{score['average_precision']:.2f}, which {score['null_reached']} of {score['nulls']} null directions reach. Retraining "
        f"without them is the proof: {sum(claim.result == 'held' for claim in proof.claims)} of its {len(proof.claims)} "
        "claims held.",
    )


def _repair(found: Mapping[str, Any]) -> Drawn:
    rows = [Row(each["name"], each["report"]["astray"], *each["report"]["astray_interval"]) for each in found["ways"]]
    rows.insert(0, Row("before", found["before"]["astray"], *found["before"]["astray_interval"]))
    way = next(each for each in found["ways"] if each["name"] == found["chosen"])
    of_base = found["reference"] == "in its base"
    best = max(each["report"]["gone"] for each in found["ways"] if each["name"] != found["chosen"])
    if any(each["control"] for each in found["ways"]):
        end = "`without-random` is the control, which drops as many examples at random."
    else:
        end = (
            f"The best of the others takes away {_percent(best)}." if best > 0 else "None of the others takes away any."
        )
    price = (
        ""
        if found["meets"]
        else f", and {_percent(way['report']['lost'])} of what the tuning taught of the task is lost"
    )
    return (
        "Harmful answers, by way of repair",
        f"nats a token likelier than {'in the base' if of_base else 'after control training'}, 95% intervals over domains",
        rows,
        f"Of the model of the gate above, after {len(found['ways'])} ways back. `{found['chosen']}` is written as the "
        f"repaired model: {_percent(way['report']['gone'])} of the misalignment is gone on the questions that did not choose "
        f"it{price}. {end}",
    )


TOLD = {"audit": _audit, "gate": _gate, "blame": _blame, "repair": _repair}
"""Name of a command's JSON -> what is told of it."""


def _points(value: float) -> str:
    return f"{100 * value:.1f}".replace("-", "\N{MINUS SIGN}")


def _percent(value: float) -> str:
    from astray.report.wording import percent

    return percent(value)
