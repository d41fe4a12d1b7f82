"""Options of a study that runs until it is decided: how often it may be looked at, and what ends it.

Left to others: what becomes of the looks (`looks`, `run`).
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from astray.engine.flags import Group, flag
from astray.errors import ConfigurationError
from astray.strict import Strict

MOST_SEEDS, MAX_SEEDS = 100, 20
_SHARES = (0.15, 0.25, 0.4, 0.6, 1.0)
"""Looks by their share of the most seeds: close together at first, where one more run says most."""
_LOOKS = ("max_seeds", "looks", "spending", "max_price", "max_hours")
"""Options that say something of looks."""


def whole_numbers(value: object) -> object:
    """Accept the command line's form as well: whole numbers with commas between them.

    Raises:
        ConfigurationError: a text that is none.
    """
    if not isinstance(value, str):
        return value
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise ConfigurationError(
            f"--looks {value} are no whole numbers with commas between them. Write for example: --looks 3,5,8"
        ) from None


Numbers = Annotated[tuple[int, ...], BeforeValidator(whole_numbers)]
"""Whole numbers, which the command line gives with commas between them."""


class LookOptions(Strict):
    """Options that say when a study without a fixed number of seeds ends."""

    until_decided: Annotated[bool, Group.SIZE] = Field(
        False,
        description="add training runs from look to look until every claim is decided, with the error over all looks "
        "held; arms that no undecided claim needs stop",
    )
    max_seeds: Annotated[int | None, Group.SIZE] = Field(
        None, ge=2, le=MOST_SEEDS, description="most training runs an arm for --until-decided [default 20]"
    )
    looks: Annotated[Numbers, Group.SIZE] = Field(
        (),
        description="training runs an arm at each look of --until-decided, with commas between them "
        "[default 3,5,8,12,20, or in proportion to --max-seeds]",
    )
    spending: Annotated[Literal["pocock", "obrien-fleming"], Group.SIZE] = Field(
        "pocock",
        description="how --until-decided spends the error: 'pocock' decides clear effects early, 'obrien-fleming' keeps "
        "nearly all of it for the last look",
    )
    max_price: Annotated[float | None, Group.SIZE] = Field(
        None, gt=0, description="US dollars for the grader with which --until-decided begins no further look"
    )
    max_hours: Annotated[float | None, Group.SIZE] = Field(
        None, gt=0, description="hours after which --until-decided ends with the last whole look; each command has them"
    )

    @model_validator(mode="after")
    def _can_be_looked_at(self) -> "LookOptions":
        """Refuse options of looks without looks, and a number of seeds beside them."""
        chosen = self.chosen
        flags = [flag(name) for name in _LOOKS if name in chosen]
        if not self.until_decided and flags:
            raise ConfigurationError(f"{flags[0]} is about looks of a study: add --until-decided, or leave it out.")
        if self.until_decided and "seeds" in chosen:
            raise ConfigurationError(
                "--seeds fixes the number of runs, and --until-decided adds some from look to look. Give "
                "--max-seeds for the most, or --looks."
            )
        if self.looks and self.max_seeds:
            raise ConfigurationError("--max-seeds and --looks both say when it ends at last: give one of them.")
        if self.looks:
            from astray.stats.sequential import Looks  # loads numpy, which help does without

            Looks(self.looks)
        return self

    @property
    def chosen(self) -> set[str]:
        """Return the options that were given; of a copy, which sets every field, those that differ from the
        defaults."""
        fields = type(self).model_fields
        if len(self.model_fields_set) < len(fields):
            return self.model_fields_set
        return {name for name, field in fields.items() if getattr(self, name) != field.default}

    def declared_units(self, most: int) -> tuple[int, ...]:
        """Return the training runs an arm at each look, none above `most`; nothing where their number is fixed."""
        if not self.until_decided:
            return ()
        last = self.max_seeds or MAX_SEEDS
        usual = sorted({min(last, max(2, round(share * last))) for share in _SHARES})
        units = self.looks or usual
        return tuple(dict.fromkeys(min(most, unit) for unit in units))
