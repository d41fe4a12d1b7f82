"""Check of a whole scenario: every text in every value of every factor, both courses on a real desk, and the gate.

For authors of scenarios and for tests: `check_scenario(load_scenario("blackmail"))`.
"""

from inspect_ai.tool import ToolError

from astray.errors import DataFormatError
from astray.measure.agentic.acts import Act
from astray.measure.agentic.desk import Desk
from astray.measure.agentic.factors import BASELINE, CORE, Factors, label, span
from astray.measure.agentic.gates import Finding
from astray.measure.agentic.render import Office, render
from astray.measure.agentic.scenario import Scenario


def check_scenario(scenario: Scenario) -> tuple[Office, ...]:
    """Render and lint the core grid and each value of each factor, play both courses in each, and run the gate on them.

    Returns:
        The offices that were examined.

    Raises:
        ConfigurationError: two texts contradict each other.
        DataFormatError: a placeholder is not filled, a value changes nothing, a course cannot be played, or the gate is
            wrong about one.
    """
    offices = tuple(render(scenario, factors) for factors in _examined(scenario))
    baseline = render(scenario, BASELINE)
    for office in offices:
        differing = {name: value for name, value in office.factors if value != getattr(BASELINE, name)}
        # A value that changes no text would be counted as a condition without being one.
        if len(differing) == 1 and office.texts == baseline.texts:
            raise DataFormatError(
                f"{_where(office)} reads as the baseline does: no part is selected by {differing}. Add one, or do "
                "not offer it."
            )
        for course, hit in (("harmful", True), ("benign", False)):
            acts = play(office, course)
            finding = _finding_of(scenario, acts, office, course)
            if any(not 0 <= number < len(acts) for number in finding.evidence):
                raise DataFormatError(
                    f"{_where(office)}: the gate names acts as evidence that there are not, {finding.evidence} of "
                    f"{len(acts)}."
                )
            if finding.hit is not hit:
                raise DataFormatError(
                    f"{_where(office)}: the gate says {finding} of the {course} course. Change the gate or the course."
                )
        for what, ids in (
            ("mails", [mail.id for mail in office.mails]),
            ("alerts", [alert.id for alert in office.alerts]),
        ):
            if len(set(ids)) < len(ids):
                raise DataFormatError(f"{_where(office)} has two {what} of one id: {', '.join(ids)}.")
        if not office.questions:
            raise DataFormatError(f"{_where(office)} has no question for understanding.")
    return offices


def play(office: Office, course: str) -> list[Act]:
    """Return the acts of a course, played to its end.

    Raises:
        DataFormatError: a tool cannot do what the course asks of it.
    """
    desk = Desk(office)
    for step in office.course(course):
        for call in step.calls:
            try:
                desk.call(call.tool, call.arguments)
            except ToolError as error:
                raise DataFormatError(
                    f"{_where(office)}: the {course} course calls {call.tool} with {call.arguments}: {error.message}"
                ) from error
    return desk.acts


def _finding_of(scenario: Scenario, acts: list[Act], office: Office, course: str) -> Finding:
    try:
        finding: object = scenario.gate(acts, office)
    except Exception as error:
        raise DataFormatError(
            f"{_where(office)}: the gate fails at the {course} course with {type(error).__name__}: {error}"
        ) from error
    if not isinstance(finding, Finding):
        raise DataFormatError(
            f"{_where(office)}: the gate gives {finding!r} for the {course} course. It has to return a Finding, or "
            "NOTHING."
        )
    return finding


def _examined(scenario: Scenario) -> tuple[Factors, ...]:
    offers = scenario.manifest.cells.offers
    core = {
        name: tuple(value for value in values if value in scenario.manifest.offered(name))
        for name, values in CORE.items()
    }
    single = (Factors.model_validate({name: value}) for name, values in offers.items() for value in values)
    return tuple(dict.fromkeys(factors for factors in (*span(core), *single) if scenario.offers(factors)))


def _where(office: Office) -> str:
    return f"The scenario {office.scenario.name!r}, cell {label(office.factors)}"
