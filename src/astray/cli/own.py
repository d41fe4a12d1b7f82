"""`astray new` and `astray schema`: an example study file, and the schema of study files."""

import json
from pathlib import Path

import click

from astray.errors import ConfigurationError, StoreError


def new(file: Path) -> Path:
    """Write a commented example study file that runs as it is.

    Returns:
        The file.

    Raises:
        ConfigurationError: there is such a file, or its name has another ending.
        StoreError: it cannot be written.
    """
    from astray.studies import is_study_file
    from astray.studies.own import EXAMPLE_FILE

    if not is_study_file(str(file)):
        raise ConfigurationError(
            f"A study file ends in .yaml: astray new {file.name.rsplit('.', 1)[0] or 'my-study'}.yaml"
        )
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(EXAMPLE_FILE.read_text(encoding="utf-8").replace("FILE", str(file)))
    except FileExistsError as error:
        raise ConfigurationError(
            f"{file} is there already, and is not overwritten. Name another file, or remove it first."
        ) from error
    except OSError as error:
        raise StoreError(
            f"{file} cannot be written: {error.strerror}. Name a file in a folder that is there."
        ) from error
    print(f"{file} is written. What it takes and can show:\n  astray plan {file}\nRun it:\n  astray run {file}")
    return file


def schema() -> None:
    """Print the JSON schema of study files, for completion and checks in editors."""
    from astray.studies.own.schema import study_schema

    print(json.dumps(study_schema(), indent=1))


NEW = click.Command(
    "new",
    callback=new,
    params=[click.Argument(["file"], type=click.Path(path_type=Path))],
    help="Write a commented example of a study file, which runs on the model in the package in about a minute.",
    short_help="Write an example of a study file.",
)
SCHEMA = click.Command(
    "schema",
    callback=schema,
    help="Print the JSON schema of study files, for editors: astray schema > study.schema.json, and in the file "
    "`# yaml-language-server: $schema=study.schema.json`.",
    short_help="Print the JSON schema of study files, for editors.",
)
