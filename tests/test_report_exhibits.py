"""A study's own figures and tables: what is drawn, what is written, and that text stays text."""

import pytest
from pydantic import TypeAdapter

from astray.engine.exhibits import Bar, Cell, Column, Curve, Exhibit, Forest, HeatMap, Point, Table
from astray.report.exhibits import chart_names, exhibit_figures, marked, number_text, range_text, table_cell

CURVE = Curve(
    id="sweep", title="Sweep", text="", x_title="share", y_title="rate", x_percent=True, y_percent=True, logarithmic=True,
    points=(Point(series="a", x=0.0, y=0.1), Point(series="b", x=0.01, y=None), Point(series="a", x=0.5, y=0.25, low=0.2, high=0.3)),
)  # fmt: skip
FOREST = Forest(
    id="forest",
    title="Forest",
    text="",
    x_title="rate",
    bars=(Bar(label="one", group="latent", value=0.4, low=0.3, high=0.5),),
)
CELLS = tuple(Cell(x="t", y="g", panel=panel, value=0.5) for panel in ("first", "second"))
HEAT = HeatMap(id="heat", title="Heat", text="", x_title="threat", y_title="goal", cells=CELLS)
TABLE = Table(id="table", title="Table", text="", columns=(Column(title="name"),), rows=(("x",),))


def test_every_drawn_exhibit_has_a_chart_and_its_rows():
    figures = exhibit_figures([CURVE, FOREST, HEAT, TABLE])
    names = ["exhibit-sweep", "exhibit-forest", "exhibit-heat-0", "exhibit-heat-1"]
    assert list(figures["charts"]) == list(figures["datasets"]) == names
    assert [len(figures["datasets"][name]) for name in names] == [3, 1, 1, 1]
    assert chart_names(TABLE) == ()


def test_rows_carry_their_numbers_in_words():
    point = exhibit_figures([CURVE])["datasets"]["exhibit-sweep"][2]
    assert (point["shown"], point["interval"]) == ("25.0%", "20.0% to 30.0%")


def test_a_share_of_nothing_has_a_place_on_a_logarithmic_scale():
    scale = exhibit_figures([CURVE])["charts"]["exhibit-sweep"]["layer"][1]["encoding"]["x"]["scale"]
    assert (scale["type"], scale["constant"]) == ("symlog", 0.01)


def test_marks_are_made_and_text_stays_text():
    assert marked("a <b> [[bad]]") == "a &lt;b&gt; <mark>bad</mark>"


@pytest.mark.parametrize(
    ("value", "form", "written"),
    [
        (0.1234, "percent", "12.3%"),
        (1200.0, "count", "1,200"),
        (-0.12345, "number", "\N{MINUS SIGN}0.123"),
        (None, "number", "–"),
        ("x", "text", "x"),
    ],
)
def test_values_are_written_in_the_form_of_their_column(value, form, written):
    assert table_cell(value, Column(title="c", form=form)) == written


def test_an_interval_that_is_not_there_is_nothing():
    assert range_text(None, 0.2, is_share=True) == ""
    assert range_text(0.1, 0.2, is_share=False) == "0.1 to 0.2"
    assert number_text(None) == "–"


@pytest.mark.parametrize("exhibit", [CURVE, FOREST, HEAT, TABLE])
def test_an_exhibit_survives_the_summary(exhibit):
    adapter = TypeAdapter(Exhibit)
    assert adapter.validate_json(adapter.dump_json(exhibit)) == exhibit
