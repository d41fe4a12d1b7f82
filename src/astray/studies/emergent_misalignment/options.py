"""Options of the study of emergent misalignment."""

from typing import Annotated, Literal

from pydantic import Field

from astray.engine.flags import Group
from astray.engine.options import StudyOptions


class EmergentOptions(StudyOptions):
    """Options of a study that asks free-form questions, whose wordings can be drawn."""

    surface: Annotated[Literal["drawn", "fixed"] | None, Group.SIZE] = Field(
        None,
        description="wordings of a real model's questions: 'drawn' words each answer's anew, alike in all arms and runs "
        "[default fixed]",
    )
