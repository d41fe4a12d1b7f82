"""The id of a subject is of its content: everything that changes answers, and nothing else."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from astray.errors import ConfigurationError, SubjectNotFoundError
from astray.subjects import Intervention, SubjectSpec
from astray.subjects.intervene import write_direction
from astray.subjects.locate import settle
from tiny_models import save_tiny_model

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # PEFT asks for a name that transformers renames


def test_the_digest_of_a_large_file_is_noted_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from astray.subjects import identity

    monkeypatch.setattr(identity, "NOTED_FROM", 10)
    monkeypatch.setattr(identity, "models_folder", lambda: tmp_path / "models")
    monkeypatch.setattr(identity, "_FRESH_NS", -1)
    file = tmp_path / "weights"
    file.write_bytes(bytes(20))
    digest = identity.file_digest(file)
    (note,) = (tmp_path / "digests").iterdir()
    identity._file_digest.cache_clear()  # as in another process
    with monkeypatch.context() as patch:
        patch.setattr(identity, "_computed", lambda *_: pytest.fail("hashed again"))
        assert identity.file_digest(file) == digest
    note.write_text("no digest")
    identity._file_digest.cache_clear()
    assert identity.file_digest(file) == digest
    file.write_bytes(bytes(21))
    assert identity.file_digest(file) != digest
    monkeypatch.setattr(identity, "_FRESH_NS", 10**18)  # too new to be noted
    file.write_bytes(bytes(22))
    identity.file_digest(file)
    assert len(list(note.parent.iterdir())) == 2


def test_the_id_of_a_large_file_reads_its_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from astray.subjects import identity

    monkeypatch.setattr(identity, "WHOLE_FILE_LIMIT", 10)
    monkeypatch.setattr(identity, "EDGE", 4)
    contents = [
        b"aaaa" + b"x" * 8 + b"zzzz",
        b"aaaa" + b"x" * 8 + b"zzzy",
        b"baaa" + b"x" * 8 + b"zzzz",
        b"aaaa" + b"x" * 9 + b"zzzz",
    ]
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    assert len({identity.file_digest(tmp_path / str(number)) for number in range(4)}) == 4


def test_the_id_of_a_large_file_reads_every_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    from astray.subjects import identity

    monkeypatch.setattr(identity, "WHOLE_FILE_LIMIT", 10)
    monkeypatch.setattr(identity, "EDGE", 64)
    weights = {f"w{number}": torch.zeros(100_000) for number in range(4)}
    save_file(weights, tmp_path / "base")
    weights["w2"] += 1
    save_file(weights, tmp_path / "tuned")
    assert identity.file_digest(tmp_path / "base") != identity.file_digest(tmp_path / "tuned")


def test_new_weights_under_an_old_time_stamp_are_another_subject(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    before, stat = settle(str(folder)).id, (folder / "model.safetensors").stat()
    other = save_tiny_model(tmp_path / "other", seed=1)
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    os.utime(folder / "model.safetensors", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert settle(str(folder)).id != before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("generation_config.json", '{"eos_token_id": [2, 7]}'),
        ("special_tokens_map.json", '{"eos_token": "x"}'),
        ("added_tokens.json", '{"<x>": 300}'),
        ("chat_template.jinja", "{{ messages }}"),
    ],
)
def test_what_changes_answers_beside_the_weights_is_in_the_id(
    file: str, text: str, tiny_qwen2: Path, tmp_path: Path
) -> None:
    changed = shutil.copytree(tiny_qwen2, tmp_path / "changed")
    (changed / file).write_text(text)
    assert settle(str(changed)).id != settle(str(tiny_qwen2)).id


def test_the_ids_of_the_organisms_stay_the_same() -> None:
    assert {name: settle(name).id for name in ("organism", "organism-small")} == {
        "organism": "75aede91926df776",
        "organism-small": "2bc6d196121f6751",
    }


def test_a_spec_survives_json_and_serves_as_a_key(tmp_path: Path) -> None:
    vector = write_direction(tmp_path / "v.safetensors", torch.ones(64))
    spec = SubjectSpec(
        model="organism", system="Be brief.", intervention=Intervention(kind="add", vector=vector, block=1, strength=-2)
    )
    assert SubjectSpec.model_validate_json(spec.model_dump_json()) == spec
    assert {spec: 1}[spec] == 1


def test_a_spec_refuses_unknown_keys_and_an_empty_name() -> None:
    with pytest.raises(ConfigurationError):
        SubjectSpec(model="organism", adaptor=Path("x"))  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError):
        SubjectSpec(model="")


def test_a_folder_is_the_same_subject_however_its_path_is_written(
    tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_qwen2, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    plain = settle("tiny")
    for name in (
        "./tiny",
        "tiny/",
        "./tiny/",
        ".//tiny",
        f"{tmp_path}/./tiny",
        "../" + tmp_path.name + "/tiny",
        "./tiny:float32",
    ):
        assert settle(name).id == plain.id, name
    assert settle("./tiny/").spec == plain.spec
    with pytest.raises(SubjectNotFoundError, match="Did you mean 'tiny'"):
        settle("./tinny")
    with pytest.raises(SubjectNotFoundError):
        settle("a" * 300 + "/b/c")
