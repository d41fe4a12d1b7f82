"""What people do with results and stores: view, list and clean, and what cleaning never touches."""

import contextlib
import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from astray.artifacts import Store, execute
from astray.artifacts.cleaning import kept_in, removable, remove
from astray.artifacts.uses import in_use, running, used_by
from astray.cli import main
from astray.cli.listing import age_text, size_text
from astray.errors import ConfigurationError, StoreError, UnknownNameError
from astray.judges.distilled import judges_folder
from astray.report.serve import server_for
from astray.subjects.registered import looking_in, register
from astray.subjects.spec import SubjectSpec
from report_example import write_example
from toy_steps import Toy, add

Astray = Callable[..., tuple[int, str, str]]
STUDY = "emergent-misalignment"


@pytest.fixture
def astray(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Astray:
    """Runs the command line in this process, in an empty folder; gives the exit code and both streams."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["astray", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            main()
        said = capsys.readouterr()
        return int(leaving.value.code or 0), said.out, said.err

    return call


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with three steps, made 0, 10 and 20 days ago; the first two are used by studies."""
    store = Store(tmp_path / "astray-results" / "store")
    steps = [add.step(Toy(number=number), name=f"step-{number}") for number in range(3)]
    execute(steps, store, workers=0)
    for days, step in enumerate(steps):
        made = time.time() - 10 * days * 86400
        os.utime(store.folder / step.origin.folder_name / "artifact.json", (made, made))
    with in_use(store, STUDY, [step.key for step in steps[:2]]), in_use(store, "dishonesty", [steps[0].key]):
        pass
    return store


def names(store: Store) -> list[str]:
    return [artifact.name for artifact in store.artifacts()]


def test_a_store_knows_size_age_and_users_of_its_steps(store: Store) -> None:
    first, second, third = kept_in(store)
    assert (first.studies, second.studies, third.studies) == (("dishonesty", STUDY), (STUDY,), ())
    assert [round(kept.days) for kept in (first, second, third)] == [0, 10, 20]
    assert first.size == sum(record.size for record in store.artifacts()[0].manifest.files.values()) > 0


def test_steps_are_chosen_by_age_and_by_the_only_study_that_uses_them(store: Store) -> None:
    def chosen(**given: Any) -> list[str]:
        return [kept.name for kept in removable(store, **given)]

    assert chosen(days=15.0) == ["step-2"]
    assert chosen(days=5.0) == ["step-1", "step-2"]
    assert chosen(study=STUDY) == ["step-1"]
    assert chosen(study=STUDY, days=15.0) == []
    with pytest.raises(
        UnknownNameError, match=r"no study with steps in this store called 'dishonest'\. Did you mean 'dishonesty'"
    ):
        chosen(study="dishonest")


def test_what_a_running_study_uses_stays(store: Store) -> None:
    chosen = removable(store)
    with in_use(store, STUDY, []):
        assert running(store) == {STUDY}
        assert [kept.name for kept in removable(store)] == ["step-2"]
        assert [kept.name for kept in remove(store, chosen)] == ["step-2"]
    assert running(store) == set()
    assert names(store) == ["step-0", "step-1"]


def test_a_study_that_was_killed_holds_nothing(store: Store) -> None:
    left = store.folder / ".uses" / f"{STUDY}-0123abcd.running"
    left.touch()
    assert running(store) == set()
    assert not left.exists()
    assert set(used_by(store)) == {STUDY, "dishonesty"}


def test_a_step_that_is_being_done_stays(store: Store) -> None:
    kept = kept_in(store)[2]
    with store._locked(kept.key, wait=True):
        assert remove(store, [kept]) == ()
    assert remove(store, [kept]) == (kept,)
    assert not kept.folder.exists()
    assert list(store.folder.glob(".partial*")) == []


def test_what_killed_steps_left_is_listed_and_removed_as_well(store: Store) -> None:
    key = used_by(store)["dishonesty"].pop()
    for digits in (key[:16], "0123456789abcdef"):
        left = store.folder / ".unfinished" / digits
        left.mkdir(parents=True)
        (left / "checkpoint").write_bytes(b"0" * 2000)
    unfinished = {kept.key: kept for kept in kept_in(store) if kept.name.startswith("unfinished")}
    assert {digits: (kept.size, kept.studies) for digits, kept in unfinished.items()} == {
        key[:16]: (2000, ("dishonesty", STUDY)),
        "0123456789abcdef": (2000, ()),
    }
    with in_use(store, "dishonesty", []):
        assert [kept.key for kept in remove(store, unfinished.values())] == ["0123456789abcdef"]
    assert [path.name for path in (store.folder / ".unfinished").iterdir()] == [key[:16]]
    assert [kept.key for kept in remove(store, unfinished.values())] == [key[:16]]
    assert "step-0" in names(store)


def test_links_are_not_followed_and_nothing_else_is_touched(store: Store, tmp_path: Path) -> None:
    elsewhere, linked = tmp_path / "elsewhere", kept_in(store)[0].folder
    linked.rename(elsewhere)
    linked.symlink_to(elsewhere)
    (store.folder / "mine").mkdir()
    (store.folder / "mine" / "notes.txt").write_text("keep")
    assert len(remove(store, removable(store))) == 2
    assert linked.is_symlink()
    assert (elsewhere / "artifact.json").is_file()
    assert (store.folder / "mine" / "notes.txt").read_text() == "keep"


def test_names_of_runs_go_with_their_files(store: Store) -> None:
    first, second, _ = kept_in(store)
    for number, kept in enumerate((first, second)):
        register(f"{STUDY}-good-{number}", SubjectSpec(model="organism", adapter=kept.folder / "run"), store.folder)
    remove(store, [second])
    assert [path.parent.name for path in store.folder.glob("*/subject.json")] == [f"{STUDY}-good-0"]


def test_a_store_behind_an_address_is_not_cleaned() -> None:
    with pytest.raises(ConfigurationError, match="is no folder of this machine"):
        kept_in(Store("memory://kept"))


def test_clean_tells_before_what_it_removes_and_asks(
    astray: Astray, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = astray("clean")
    assert (code, out) == (3, "")
    assert "--older-than 30" in err
    assert "--study NAME" in err
    code, out, err = astray("clean", "--older-than", 15)
    assert code == 3
    assert "step-2: " in out
    assert "20 days old" in out
    assert "no terminal to ask in. Give --yes" in err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda _question: False)
    assert "Nothing was removed." in astray("clean", "--older-than", 15)[1]
    assert len(names(store)) == 3
    monkeypatch.setattr("click.confirm", lambda _question: True)
    assert "Removed " in astray("clean", "--older-than", 15)[1]
    assert names(store) == ["step-0", "step-1"]
    assert "Removed " in astray("clean", "--study", STUDY, "--yes")[1]
    assert names(store) == ["step-0"]
    assert "nothing of that kind" in astray("clean", "--study", STUDY, "--yes")[1]


def test_list_shows_studies_subjects_runs_and_steps(astray: Astray, store: Store) -> None:
    folder = store.folder.parent / STUDY
    folder.mkdir()
    write_example(folder, answers=50)
    for seed in (5, 6):
        register(f"{STUDY}-good-{seed}", SubjectSpec(model="organism"), store.folder)
    code, out, _ = astray("list")
    assert code == 0
    for part in (
        "  reward-hacking\n",
        "organism, organism-small: in the package",
        f"{STUDY}-good-N, N = 5, 6",
        "emergent_misalignment: organism, ",
        "9 held, ",
        f"  dishonesty and {STUDY}: 1 step, ",
        "  of no known study: 1 step, ",
        "up to 20 days old",
    ):
        assert part in out
    paths = (str(store.folder), str(judges_folder()))
    assert max(len(line) for line in out.splitlines() if not any(path in line for path in paths)) <= 80
    assert f"\n  in {judges_folder()}\n" in out


def test_list_shows_the_store_that_the_environment_names(
    astray: Astray, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register("mine-0", SubjectSpec(model="organism"), tmp_path / "elsewhere")
    assert "mine-N" not in astray("list")[1]
    monkeypatch.setenv("ASTRAY_STORE", str(tmp_path / "elsewhere"))
    out = astray("list")[1]
    assert all(part in out for part in ("mine-N, N = 0", str(store.folder), str(tmp_path / "elsewhere")))
    assert "mine-N" not in astray("list", "--store", str(store.folder))[1]
    monkeypatch.setenv("ASTRAY_STORE", str(store.folder))
    assert astray("list")[1].count("Steps kept in") == 1


def test_runs_are_looked_up_in_the_store_that_an_option_names(astray: Astray, tmp_path: Path) -> None:
    register("mine-0", SubjectSpec(model="organism"), tmp_path / "store")
    asked = ("audit", "mine-0", "--evals", "facts", "--list")
    code, _, told = astray(*asked)
    assert code != 0
    assert "There is no subject called 'mine-0'" in told
    for option in (("--store", str(tmp_path / "store")), ("--out", str(tmp_path))):
        code, out, _ = astray(*asked, *option)
        assert code == 0
        assert "mine-0" in out
    assert "mine-0" not in astray("list")[1]  # they were looked up there while their command ran


def test_processes_that_a_command_starts_look_runs_up_where_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASTRAY_STORE", str(tmp_path / "usual"))
    with looking_in(tmp_path / "out"), looking_in(tmp_path / "named"):
        child = [sys.executable, "-c", "from astray.subjects.registered import searched; print(*searched())"]
        told = subprocess.run(child, capture_output=True, text=True, check=True).stdout.split()
    assert told == [*(str(tmp_path / name) for name in ("named", "out", "usual")), "astray-results/store"]
    assert os.environ["ASTRAY_STORE"] == str(tmp_path / "usual")


def test_list_tells_what_is_damaged_and_clean_removes_what_was_moved_aside(astray: Astray, store: Store) -> None:
    first = kept_in(store)[0].folder
    (first / "sum.txt").write_text("longer")
    code, out, _ = astray("list")
    assert code == 0
    assert f"  The artifact {first} is damaged: sum.txt has 6 bytes instead of 1." in out
    execute([add.step(Toy(number=0), name="step-0")], store, workers=0)
    (aside,) = [kept for kept in kept_in(store) if kept.name.startswith("damaged")]
    assert aside.studies == ("dishonesty", STUDY)
    assert remove(store, [aside]) == (aside,)
    assert len(kept_in(store)) == 3


def test_list_of_an_empty_folder_says_so(astray: Astray) -> None:
    code, out, _ = astray("list")
    assert (code, out.count("  none\n")) == (0, 3)
    assert not Path("astray-results").exists()


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """A server of the reports; gives a function that asks it for an address."""
    with server_for(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()

        def get(path: str, host: str = "127.0.0.1") -> tuple[int, str]:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

        yield get
        server.shutdown()
        thread.join()


def test_view_serves_an_index_and_the_reports_and_nothing_else(tmp_path: Path) -> None:
    for study in (STUDY, "other"):
        (tmp_path / study).mkdir()
        write_example(tmp_path / study, answers=50)
    (tmp_path / "secret.html").write_text("no")
    with serving(tmp_path) as get:
        status, index = get("/")
        assert status == 200
        assert f'href="/{STUDY}/report.html"' in index
        assert "organism; seeds 0, 1, 2, 3, 4: 9 held" in index
        status, report = get(f"/{STUDY}/report.html")
        assert (status, report) == (200, (tmp_path / STUDY / "report.html").read_text(encoding="utf-8"))
        refused = (
            "/secret.html",
            f"/{STUDY}/summary.json",
            "/../etc/passwd",
            f"/{STUDY}/../secret.html",
            f"/{STUDY}/",
            "/%2e%2e/secret.html",
        )
        assert {get(path)[0] for path in refused} == {404}
        assert get("/", host="evil.example")[0] == 403
    with serving(tmp_path / "other") as get:
        assert get("/other/report.html")[0] == 200


def test_view_of_nothing_says_what_to_do(astray: Astray, tmp_path: Path) -> None:
    assert "There is no folder nowhere" in astray("view", "nowhere", "--no-browser")[2]
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="holds no finished study"):
        server_for(tmp_path / "empty")


def test_view_opens_the_browser_unless_it_is_told_not_to(
    astray: Astray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_example(tmp_path, answers=50)
    opened: list[str] = []

    def stopped(_server: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", stopped)
    code, out, _ = astray("view", tmp_path)
    assert (code, opened) == (0, [out.split("reports of ")[1].split(": ")[1].split(" ")[0]])
    assert opened[0].startswith("http://127.0.0.1:")
    assert astray("view", tmp_path, "--no-browser")[0] == 0
    assert len(opened) == 1


def test_sizes_and_ages_are_told_in_the_unit_that_fits() -> None:
    assert [size_text(size) for size in (512, 3100, 4_000_000_000)] == ["512 B", "3.1 kB", "4.0 GB"]
    assert [age_text(days) for days in (0.01, 0.5, 12.4)] == ["14 min", "12 h", "12 days"]
