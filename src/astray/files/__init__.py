"""Files that people give, read strictly: JSON Lines, JSON, CSV, TSV, YAML and Parquet, each also compressed.

Every value is what the file says; no type is guessed, nothing is skipped or cut. What cannot be read without doubt is
an error of `errors` that names file, row or line, field, fault and a right form. Left to others: what rows mean.

Names are imported on first use.
"""

from typing import TYPE_CHECKING

from astray.first_use import on_first_use

if TYPE_CHECKING:
    from astray.files.columns import read_columns
    from astray.files.forms import check_names, check_one_label, read_as, row_as, text_of
    from astray.files.json_text import parse_json, read_json
    from astray.files.marked import Location, Marked, nearest, read_form, read_marked_form
    from astray.files.reading import check_there, suffix_of
    from astray.files.rows import Row, convert_rows, read_rows
    from astray.files.yaml_text import read_yaml

__all__ = [
    "Location",
    "Marked",
    "Row",
    "check_names",
    "check_one_label",
    "check_there",
    "convert_rows",
    "nearest",
    "parse_json",
    "read_as",
    "read_columns",
    "read_form",
    "read_json",
    "read_marked_form",
    "read_rows",
    "read_yaml",
    "row_as",
    "suffix_of",
    "text_of",
]

__getattr__ = on_first_use(__name__, __file__)
