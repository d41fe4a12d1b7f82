"""Options of the command line: those of a study from its options model, and those that verbs have besides, each
declared once."""

import math
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from typing_extensions import override

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

RESULTS = Path("astray-results")
METAVARS = {int: "INTEGER", float: "NUMBER", Path: "PATH", tuple: "NAMES", dict: "KEY=VALUE"}
"""Type of an option -> what stands for its value in help; names have commas between them."""


class Amount(click.FloatRange):
    """A finite number of at least 0; click itself accepts "nan" in any range."""

    def __init__(self) -> None:
        super().__init__(min=0)

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


class Option(click.Option):
    """An option with the heading under which help shows it."""

    def __init__(self, *declared: str, group: str, **settings: Any):
        super().__init__(declared, **settings)
        self.group = group

    @override
    def get_help_extra(self, ctx: click.Context) -> Any:
        """Add nothing: ranges and defaults stand in the text, in words."""
        return {}


def option(name: str, kind: Any, help: str, metavar: str | None = None, **settings: Any) -> click.Option:
    """Return an option of a verb that takes no study.

    Args:
        name: such as "--seed"; the parameter is called as it is.
        kind: type of its value.
        help: one sentence or two, with the default.
        metavar: what stands for the value in help, if not the type.
        settings: of click.
    """
    return click.Option([name], type=kind, help=help, metavar=metavar or METAVARS.get(kind, "TEXT"), **settings)


def _with_runs_of(folder: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return what looks run ids up in the store that an option names, while its command runs; an fsspec URL has none."""

    def look(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value is not None and "://" not in str(value) and value != parameter.default:
            from astray.subjects.registered import looking_in

            context.with_resource(looking_in(Path(value) / folder))
        return value

    return look


OUT = Option(
    "--out",
    group="Output",
    is_eager=True,  # before --store, whose runs are looked up first
    callback=_with_runs_of("store"),
    type=click.Path(path_type=Path),
    metavar="PATH",
    default=RESULTS,
    help=f"Folder for the results. [default {RESULTS}]",
)
STORE = Option(
    "--store",
    group="Output",
    callback=_with_runs_of(""),
    metavar="PLACE",
    help="Where finished steps are kept, and run ids looked up first: a folder or an fsspec URL. By default in the results "
    "folder.",
)
WORKERS = Option(
    "--workers",
    group="Output",
    type=click.IntRange(min=0),
    metavar="INTEGER",
    help="Worker processes; by default one for each CPU, and one alone where there is a GPU or where acting models "
    "are waited for. [at least 0]",
)
AS_JSON = Option(
    "--json",
    "as_json",
    group="Output",
    is_flag=True,
    help="Print one JSON object instead of the table.",
)
PLACE = (
    Option("--on", group="Place", metavar="PLACE", help="Where steps run: slurm or ray. By default on this machine."),
    Option("--partition", group="Place", metavar="NAME", help="Partition of the Slurm cluster."),
    Option(
        "--gpus",
        group="Place",
        type=click.IntRange(min=0),
        metavar="INTEGER",
        help="GPUs of each step that runs a model; judging gets none. [default 0]",
    ),
    Option("--time", group="Place", metavar="TIME", help="Time limit of a Slurm job: 90m, 4h, 2d. [default 4h]"),
    Option("--account", group="Place", metavar="NAME", help="Account that Slurm charges."),
    Option("--address", group="Place", metavar="ADDRESS", help="Address of the Ray cluster, such as ray-head:6379."),
    Option("--memory", group="Place", type=Amount(), metavar="NUMBER", help="Memory of a step in GB. [at least 0]"),
)
"""Places beyond this machine, and what a job gets there."""
DRY_RUN = Option(
    "--dry-run",
    group="Output",
    is_flag=True,
    help="List the steps that would run and those that are there already, and run nothing.",
)
PRICE_GPU = Option(
    "--price-gpu",
    group="Place",
    type=Amount(),
    metavar="NUMBER",
    help="Price of an hour of one GPU, in US dollars. [at least 0]",
)
PRICE_IN, PRICE_OUT = (
    Option(
        f"--price-{way}",
        group="Judging",
        type=Amount(),
        metavar="NUMBER",
        default=0.0,
        help=f"The grader's price of a million {way}put tokens, in US dollars. [at least 0]",
    )
    for way in ("in", "out")
)
FEW_WORKERS = option("--workers", click.IntRange(min=0), "Worker processes. [default 0: all in this one]", "INTEGER")
GRADER = option("--grader", str, "Inspect model that judges, such as openai/gpt-4o. The organism has its own.", "MODEL")
LABELS = option(
    "--labels", str, "Labelled answers, or the grader's calibration.json, to correct for its error.", "FILE"
)
GOLD = (
    option("--gold", click.IntRange(min=1), "Answers, drawn at random, that --gold-grader reads as well.", "INTEGER"),
    option("--gold-grader", str, "Inspect model whose verdicts are taken as right, for --gold.", "MODEL"),
)
"""A second judge of some answers, by which rates then are."""
MAX_TOKENS = option("--max-tokens", int, "Length limit of an answer in tokens, if not the usual one.")
SEED = option("--seed", int, "Seed of all random draws. [default 0]")
ENGINE = option(
    "--engine",
    str,
    "What samples models that run here: local (this process), vllm (a server of each base, started here), or the address "
    "of a vLLM server with adapters. [default local]",
    "NAME",
)
SURFACE = click.Option(
    ["--surface"],
    type=click.Choice(["drawn", "fixed", "both"]),
    help="Wording of questions: drawn for each answer from texts that say the same (24 or more of each of ours); the same for "
    "all; or drawn for every second answer, to tell whether texts are known by heart. Questions without a wording stay as "
    "they are. [default fixed]",
)
BUDGET = option("--budget", float, "Million tokens for graders and served models; then nothing more is asked.")
JUDGED = (GRADER, LABELS, *GOLD)
"""Who reads answers, and what its verdicts are corrected by."""
ASKED = (MAX_TOKENS, SEED, SURFACE, ENGINE, BUDGET, PRICE_IN, PRICE_OUT)
"""How models that are measured as they are, without a study, are asked, and what that may cost."""


def options_of(kind: "type[BaseModel]") -> Iterator[Option]:
    """Yield the options of a study, made from its options model, which also checks their values."""
    for name, field in kind.model_fields.items():
        yield _option(name, field)


def _option(name: str, field: "FieldInfo") -> Option:
    from astray.engine.flags import Group, flag

    declared, details = _innermost(field)
    group = next((str(mark) for mark in field.metadata if isinstance(mark, Group)), "Other")
    limits = "; ".join(word for word in (_limits(details), _default(field.default)) if word)
    help = f"{_sentence(field.description or details.description or '')}{f' [{limits}]' if limits else ''}"
    if declared is bool:
        return Option(flag(name), name, group=group, help=help, is_flag=True, flag_value=True, default=None)
    return Option(
        flag(name), name, group=group, help=help, metavar=METAVARS.get(declared, "TEXT"), multiple=declared is dict
    )


def _innermost(field: "FieldInfo") -> "tuple[Any, FieldInfo]":
    """Return what an option is when it is given: its type without None, and the field that has its limits."""
    from pydantic.fields import FieldInfo

    declared: Any = field.annotation
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        (declared,) = (argument for argument in typing.get_args(declared) if argument is not type(None))
    details = field
    if typing.get_origin(declared) is typing.Annotated:
        details = FieldInfo.from_annotation(declared)
        declared = details.annotation
    return typing.get_origin(declared) or declared, details


def _limits(field: "FieldInfo") -> str:
    """Tell the range of a number."""
    bounds = {
        name: value
        for mark in field.metadata
        for name in ("ge", "gt", "le")
        if (value := getattr(mark, name, None)) is not None
    }
    if {"ge", "le"} <= bounds.keys():
        return f"{bounds['ge']} to {bounds['le']}"
    return f"at least {bounds['ge']}" if "ge" in bounds else f"above {bounds['gt']}" if "gt" in bounds else ""


def _default(value: object) -> str:
    return f"default {value}" if isinstance(value, int | str) and not isinstance(value, bool) else ""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
