"""What a user may choose for a study."""

import pytest

from astray.engine.options import StudyOptions, checked
from astray.errors import ConfigurationError


def test_a_study_is_repeated_on_other_seeds() -> None:
    assert list(checked(StudyOptions, seeds=3).training_seeds) == [0, 1, 2]
    assert list(checked(StudyOptions, seeds=3, first_seed=5).training_seeds) == [5, 6, 7]
    assert list(checked(StudyOptions, seeds=3, first_seed=5, quick=True).training_seeds) == [5, 6]


def test_a_first_seed_below_zero_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="first_seed is -1"):
        checked(StudyOptions, first_seed=-1)
