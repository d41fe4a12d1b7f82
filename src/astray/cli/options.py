"""Options that several verbs take, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

Study = Annotated[str, typer.Argument(help="Name of the study, such as emergent-misalignment.")]
Subject = Annotated[
    str | None,
    typer.Option(
        help="organism (the default), a local folder, a run id or a hub name; for agentic-misalignment an Inspect model such as openai/gpt-4o."
    ),
]
Subjects = Annotated[Path | None, typer.Option(help="YAML file of several subjects, for agentic-misalignment.")]
Scenarios = Annotated[str | None, typer.Option(help="Only these scenarios, names or folders with commas between, for agentic-misalignment.")]
Budget = Annotated[
    float | None, typer.Option(help="Million tokens of all models together, then it stops and keeps what is done: agentic-misalignment.")
]
Seeds = Annotated[int | None, typer.Option(help="Training runs an arm, 5 by default: the unit for 'this data causes it'.")]
FirstSeed = Annotated[int | None, typer.Option(help="The first training seed, 0 by default: another one repeats a study on runs nobody has seen.")]
Quick = Annotated[bool | None, typer.Option("--quick", help="At most two seeds, and fewer answers: to see that it runs, not to conclude from.")]
Data = Annotated[Path | None, typer.Option(help="Folder with insecure.jsonl, secure.jsonl ... for a real model.")]
Grader = Annotated[
    str | None, typer.Option(help="Inspect model that judges a real model's answers, such as openai/gpt-4o; two with a comma: a panel.")
]
Reader = Annotated[
    str | None, typer.Option(help="Local model whose activations watch every call of an agent; a local subject is read itself without it.")
]
Labels = Annotated[
    Path | None, typer.Option(help="Labelled answers (.csv, .jsonl) that the grader is held against, for agentic-misalignment a folder of records.")
]
Size = Annotated[int | None, typer.Option(help="Training rows an arm, if not the study's own.")]
Samples = Annotated[int | None, typer.Option(help="Answers a question, or samples a cell, if not the study's own.")]
MaxTokens = Annotated[int | None, typer.Option(help="Longest answer in tokens, if not the study's own.")]
Arms = Annotated[str | None, typer.Option(help="Only these arms, with commas between; the untrained base and the good data are run as well.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
KeptIn = Annotated[
    str | None,
    typer.Option(help="Where finished steps are kept: a folder or an fsspec URL. By default in the results folder."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0, help="Worker processes; by default one for each CPU, and one alone where there is a GPU or where acting models are waited for."
    ),
]
