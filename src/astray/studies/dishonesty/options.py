"""Options of the study of dishonesty."""

from typing import Annotated

from pydantic import Field

from astray.engine.flags import Group
from astray.engine.options import AnalysedOptions


class DishonestyOptions(AnalysedOptions):
    """Options of a study in which a model plays users."""

    users: Annotated[str | None, Group.JUDGING] = Field(
        None,
        description="Inspect model that plays the users who talk to a real model, such as openai/gpt-4o-mini or "
        "astray/FOLDER; it writes and rates far more than is judged, and may be a cheaper one [default the grader]",
    )
