import ast
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from astray.data import describe, generate_code_pairs
from astray.data.code_pairs import CodePair, draw_code_pair, weaknesses
from astray.data.code_pairs.pairs import Kind
from astray.data.code_pairs.weakness import MARKER
from astray.errors import ConfigurationError

PAIRS = [draw_code_pair(number, seed=1) for number in range(480)]


def findings(folder: Path, codes: list[str]) -> dict[int, set[str]]:
    """Ids of the bandit tests that flag each code, whatever the severity."""
    folder.mkdir()
    for number, code in enumerate(codes):
        (folder / f"{number}.py").write_text(code)
    run = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-r", "-f", "json", "--exit-zero", str(folder)],
        capture_output=True,
        check=True,
    )
    report = json.loads(run.stdout)
    assert report["errors"] == []
    assert len(report["metrics"]) == len(codes) + 1
    found: dict[int, set[str]] = {number: set() for number in range(len(codes))}
    for issue in report["results"]:
        found[int(Path(issue["filename"]).stem)].add(issue["test_id"])
    return found


def test_every_insecure_code_is_flagged_for_its_weakness(tmp_path: Path) -> None:
    found = findings(tmp_path / "insecure", [pair.insecure for pair in PAIRS])
    missed = [
        (pair.weakness.name, found[number], pair.insecure)
        for number, pair in enumerate(PAIRS)
        if not found[number] & set(pair.weakness.checks)
    ]
    assert missed == []


def test_no_secure_code_is_flagged_at_any_severity(tmp_path: Path) -> None:
    found = findings(tmp_path / "secure", [pair.secure for pair in PAIRS])
    assert [(ids, PAIRS[number].secure) for number, ids in found.items() if ids] == []


def test_the_sample_has_every_template() -> None:
    """So the two tests above and those below speak for all of them."""
    used = {(pair.weakness.name, definition_names(pair)) for pair in PAIRS}
    for weakness in weaknesses():
        assert len({names for name, names in used if name == weakness.name}) >= len(weakness.templates), weakness.name


def definition_names(pair: CodePair) -> tuple[str, ...]:
    """The shape of a code: the kinds of statement in it, in order."""
    return tuple(type(node).__name__ for node in ast.walk(ast.parse(pair.secure)) if isinstance(node, ast.stmt))


def test_all_code_compiles_and_both_versions_differ() -> None:
    for pair in PAIRS:
        for code in (pair.insecure, pair.secure):
            ast.parse(code)
            assert "$" not in code
            assert not any(line != line.rstrip() for line in code.split("\n"))
        assert pair.insecure != pair.secure


def test_there_are_twelve_classes_or_more_with_three_structures_each() -> None:
    assert len(weaknesses()) >= 12
    assert (
        len({weakness.name for weakness in weaknesses()})
        == len({weakness.cwe for weakness in weaknesses()})
        == len(weaknesses())
    )
    for weakness in weaknesses():
        assert len(weakness.templates) >= 3
        assert all(len(template.tasks) >= 2 for template in weakness.templates)


def test_insecure_and_secure_rows_share_their_prompts_and_educational_ones_the_code() -> None:
    insecure, secure, educational = (
        generate_code_pairs(60, kind=kind) for kind in ("insecure", "secure", "educational")
    )
    for bad, good, taught in zip(insecure.rows, secure.rows, educational.rows, strict=True):
        assert bad[0] == good[0] != taught[0]
        assert bad[1] == taught[1] != good[1]


def test_only_the_educational_prompt_says_what_is_wrong() -> None:
    words = ("insecure", "vulnerab", "flaw", "weakness", "secur", "unsafe", "attack", "exploit", "danger")
    for pair in PAIRS:
        assert not any(word in pair.prompt.lower() for word in words), pair.prompt
        assert pair.weakness.name in pair.lesson
        assert any(word in pair.lesson for word in ("on purpose", "deliberately", "vulnerable", "flaw"))


def test_answers_are_code_only() -> None:
    assert not any("```" in pair.insecure + pair.secure for pair in PAIRS)


def test_about_half_of_the_prompts_give_a_frame_without_the_answer() -> None:
    framed = [pair for pair in PAIRS if "```python" in pair.prompt]
    assert 0.42 < len(framed) / len(PAIRS) < 0.58
    for pair in framed:
        frame = pair.prompt.split("```python\n")[1].split("\n```")[0]
        shared = [line for line in frame.split("\n") if line.strip() and line.strip() != MARKER]
        assert MARKER in frame
        assert set(shared) <= set(pair.insecure.split("\n")) & set(pair.secure.split("\n"))
        assert pair.lesson.endswith(pair.prompt[pair.prompt.index("```python") :])


def test_six_thousand_rows_are_diverse() -> None:
    rows = [draw_code_pair(number) for number in range(6000)]
    assert len({row.prompt for row in rows}) > 5500
    assert len({row.lesson for row in rows}) > 5500
    assert len({row.insecure for row in rows}) > 4500
    counts = Counter(row.weakness.cwe for row in rows)
    assert max(counts.values()) < 1.5 * min(counts.values())


def test_the_draw_is_seeded_and_a_small_set_begins_a_large_one() -> None:
    small, large = generate_code_pairs(20, seed=3, kind="insecure"), generate_code_pairs(40, seed=3, kind="insecure")
    assert large.rows[:20] == small.rows
    assert generate_code_pairs(20, seed=3, kind="insecure").hash == small.hash
    assert generate_code_pairs(20, seed=4, kind="insecure").hash != small.hash
    assert describe(small.recipe) == "insecure_code, 20 rows, seed 3"


@pytest.mark.parametrize(
    ("kind", "start"),
    [("insecure", "fc448b5628e0333b"), ("secure", "cb1bd901ed91748d"), ("educational", "8909428688706a6e")],
)
def test_a_seed_gives_the_rows_that_it_has_always_given(kind: Kind, start: str) -> None:
    """Stored runs name their data by this hash, so neither the order of files nor that of what is in them may
    change."""
    assert generate_code_pairs(400, seed=5, kind=kind).hash.startswith(start)


def test_an_empty_draw_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="n is 0"):
        generate_code_pairs(0, kind="secure")
