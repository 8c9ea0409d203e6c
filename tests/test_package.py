"""Packages: what goes in comes out, the same bytes each time, and nothing hostile leaves a trace."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from hostile_packages import ABSOLUTE, HOSTILE, members_of, set_key, written

from edgesched.bridge.remote import archive
from edgesched.bridge.remote.archive import PackageError, pack, sha256_of, unpack
from edgesched.bridge.remote.package import (
    MANIFEST,
    Model,
    make_package,
    model_key,
    model_of,
    open_package,
    unpack_package,
)
from edgesched.bridge.remote.store import Received, StoreError, model_path, pack_model, receive_model
from edgesched.devices import boards
from edgesched.runs.load import load_scenario
from edgesched.runs.resolve import device_of, policy_of

BOARD = {
    "name": "small board ²",
    "source": "0o17",  # a text that YAML's core schema could take for a number
    "processors": [{"name": "cpu", "cores": 2}],
    "memory": {"total_bytes": 1 << 30, "base_bytes": 1 << 20},
    "cost": {"profile": "times.csv", "load_byte_s": 1e-9, "execute": {"other": {"mac_s": 2e-11}}},
}
POLICY = "from edgesched.policies.contract import Policy\n\n\nclass Mine(Policy):\n    pass\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scenario that names every kind of file; profiles are looked up where one works."""
    home = tmp_path / "home"
    (home / "lists").mkdir(parents=True)
    monkeypatch.chdir(home)
    (home / "board.yaml").write_text(json.dumps({"like": "raspberry-pi-4-2gb", **BOARD}))
    (home / "times.csv").write_text("network,layer,execute_s\nGenderNet,0,0.01\n")
    (home / "lists" / "own times.csv").write_text("gap_s,networks\n1,GenderNet\n2,AgeNet+GenderNet\n")
    (home / "mine.py").write_text(POLICY)
    scenario = {
        "name": "all kinds",
        "device": {"board": "board.yaml", "memory_limit": "512MiB", "runtime": {"threads": 2}},
        "workload": {
            "streams": [
                {"name": "a", "arrivals": {"process": "replay", "file": "lists/own times.csv"}},
                {
                    "name": "b",
                    "arrivals": {"process": "poisson", "rate_per_s": 1},
                    "networks": ["AgeNet"],
                },
            ]
        },
        "policy": "mine.py:Mine",
        "run": {"requests": 2, "replications": 3, "seed": 7},
    }
    (home / "scenario.yaml").write_text(yaml.safe_dump(scenario))
    return home


def test_what_goes_in_comes_out(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, home = load_scenario(folder / "scenario.yaml")
    package = make_package(tmp_path / "p.zip", scenario, home, nice=3)
    assert package.scenario == scenario
    assert package.manifest.replications == (0, 1, 2)
    assert package.manifest.nice == 3
    unpack_package(package, tmp_path / "there")
    assert sorted(path.name for path in (tmp_path / "there").rglob("*") if path.is_file()) == [
        "0.csv",
        "board.yaml",
        "policy.py",
        "profile.csv",
    ]
    here = device_of(scenario, home)
    before = boards.load("board.yaml")
    monkeypatch.chdir(tmp_path / "there")
    shutil.rmtree(folder)
    runnable = package.runnable
    assert boards.load("board.yaml").model_dump(exclude={"cost": {"profile"}, "calibration": True}) == (
        before.model_dump(exclude={"cost": {"profile"}, "calibration": True})
    )
    there = device_of(runnable, Path())
    assert there.memory == here.memory
    assert there.runtime == here.runtime
    assert runnable.workload.networks(Path()) == ("GenderNet", "AgeNet")
    assert type(policy_of(runnable, Path())).__name__ == "Mine"
    assert runnable.run == scenario.run


def test_the_same_content_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    scenario, home = load_scenario(folder / "scenario.yaml")
    first = make_package(tmp_path / "a.zip", scenario, home)
    (folder / "times.csv").touch()
    second = make_package(tmp_path / "b.zip", scenario, home)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.sha256 == second.sha256 == sha256_of(tmp_path / "a.zip")
    (folder / "mine.py").write_text(POLICY + "# changed\n")
    assert make_package(tmp_path / "c.zip", scenario, home).sha256 != first.sha256


def test_a_board_of_the_catalogue_travels_whole(folder: Path, tmp_path: Path) -> None:
    changes = {"device": "raspberry-pi-4-1gb", "policy": "fifo"}
    scenario, home = load_scenario(folder / "scenario.yaml", changes)
    package = make_package(tmp_path / "p.zip", scenario, home)
    unpack_package(package, tmp_path / "there")
    assert not (tmp_path / "there" / "policy.py").exists()
    found = boards.load(str(tmp_path / "there" / "board.yaml"))
    known = boards.load("raspberry-pi-4-1gb")
    assert found.model_dump(exclude={"calibration"}) == known.model_dump(exclude={"calibration"})


def test_a_missing_file_is_one_message(folder: Path, tmp_path: Path) -> None:
    scenario, home = load_scenario(folder / "scenario.yaml")
    (folder / "times.csv").unlink()
    with pytest.raises(PackageError, match=r"times\.csv: No such file"):
        make_package(tmp_path / "p.zip", scenario, home)
    assert list(tmp_path.glob("*.zip")) == []


# --- hostile packages ---------------------------------------------------------------------------------------


def refused(path: Path, tmp_path: Path) -> str:
    """The message; nothing may be left behind."""
    before = set(tmp_path.rglob("*"))
    with pytest.raises(PackageError) as caught:
        unpack_package(open_package(path), tmp_path / "there")
    assert set(tmp_path.rglob("*")) == before
    message = str(caught.value)
    assert len(message) < 600
    assert str(path) in message
    return message


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_packages_are_refused(kind: str, folder: Path, tmp_path: Path) -> None:
    scenario, home = load_scenario(folder / "scenario.yaml")
    good = make_package(tmp_path / "good.zip", scenario, home)
    bad = tmp_path / "bad.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # zipfile warns of a name that is there twice
        written(bad, HOSTILE[kind](members_of(good.path)))
    refused(bad, tmp_path)
    assert not Path(ABSOLUTE).exists()


def damaged(good: bytes) -> dict[str, bytes]:
    end = good.rindex(b"PK\5\6")
    comment = good[:-2] + b"\x05\x00hello"
    many = bytearray(good)
    many[end + 8 : end + 12] = b"\xff\xff\xff\xff"
    big_list = bytearray(good)
    big_list[end + 12 : end + 16] = (1 << 30).to_bytes(4, "little")
    return {
        "empty": b"",
        "text": b"hello, I am a package\n" * 10,
        "only an end": good[end:],
        "cut short": good[:-10],
        "cut in the middle": good[: len(good) // 2],
        "something before": b"#!/bin/sh\nrm -rf /\n" + good,
        "something behind": good + b"more",
        "comment": comment,
        "many members": bytes(many),
        "long list": bytes(big_list),
        "flipped bytes": good[:60] + bytes(b ^ 0xFF for b in good[60:100]) + good[100:],
    }


def test_damaged_files_are_refused(folder: Path, tmp_path: Path) -> None:
    scenario, home = load_scenario(folder / "scenario.yaml")
    good = make_package(tmp_path / "good.zip", scenario, home).path.read_bytes()
    bad = tmp_path / "bad.zip"
    for content in damaged(good).values():
        bad.write_bytes(content)
        refused(bad, tmp_path)
    bad.unlink()
    for unreadable in (bad, tmp_path):
        with pytest.raises(PackageError):
            open_package(unreadable)


def test_any_flipped_byte_is_noticed(folder: Path, tmp_path: Path) -> None:
    """A changed package is refused, or (in fields that mean nothing) comes to the same files."""
    scenario, home = load_scenario(folder / "scenario.yaml", {"policy": "fifo"})
    good = make_package(tmp_path / "good.zip", scenario, home)
    unpack_package(good, tmp_path / "right")
    wanted = {p.name: p.read_bytes() for p in (tmp_path / "right").rglob("*") if p.is_file()}
    content = good.path.read_bytes()
    bad = tmp_path / "bad.zip"
    for place in range(0, len(content), 7):
        bad.write_bytes(content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :])
        try:
            unpack_package(open_package(bad), tmp_path / "there")
        except PackageError:
            continue
        finally:
            found = {p.name: p.read_bytes() for p in (tmp_path / "there").rglob("*") if p.is_file()}
            shutil.rmtree(tmp_path / "there", ignore_errors=True)
        if open_package(bad).manifest == good.manifest:
            assert found == wanted


def test_compressed_packages_are_refused(folder: Path, tmp_path: Path) -> None:
    scenario, home = load_scenario(folder / "scenario.yaml")
    good = make_package(tmp_path / "good.zip", scenario, home)
    bad = tmp_path / "bad.zip"
    bomb = [*members_of(good.path), (zipfile.ZipInfo("bomb"), b"\0" * 50_000_000)]
    written(bad, bomb, zipfile.ZIP_DEFLATED)
    assert bad.stat().st_size < 200_000
    assert "compressed" in refused(bad, tmp_path)


def test_members_cannot_share_their_bytes(tmp_path: Path) -> None:
    """A thousand list entries for the same stored bytes would unpack to a thousand times the file."""
    content = b"x" * 100_000
    names = [f"a{i}.csv" for i in range(50)]
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        text = json.dumps({"members": {name: {"sha256": sha256_of(content)} for name in names}})
        file.writestr(zipfile.ZipInfo("package.json"), text)
        info = zipfile.ZipInfo(names[0])
        file.writestr(info, content)
        for name in names[1:]:
            again = zipfile.ZipInfo(name)
            for slot in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(again, slot, getattr(info, slot))
            file.filelist.append(again)
            file.NameToInfo[name] = again
    with pytest.raises(PackageError, match="size"):
        unpack(tmp_path / "bad.zip", MANIFEST, tmp_path / "there", lambda name: True)
    assert not (tmp_path / "there").exists()


def test_what_is_too_much_is_not_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PackageError, match="2000 files"):
        pack(tmp_path / "p.zip", MANIFEST, {}, {f"{i}.csv": b"" for i in range(2000)})
    with pytest.raises(PackageError, match="no name"):
        pack(tmp_path / "p.zip", MANIFEST, {}, {"../x": b""})
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    with pytest.raises(PackageError, match="at most 1000"):
        pack(tmp_path / "p.zip", MANIFEST, {}, {"x": b"y" * 1000})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    pack(tmp_path / "p.zip", MANIFEST, {}, {"x": b"y"})
    (tmp_path / "there").mkdir()
    with pytest.raises(PackageError, match="there already"):
        unpack(tmp_path / "p.zip", MANIFEST, tmp_path / "there", lambda name: True)
    assert list((tmp_path / "there").iterdir()) == []


# --- the store ----------------------------------------------------------------------------------------------


def test_models_are_kept_by_what_they_are(tmp_path: Path) -> None:
    first, second = tmp_path / "a.onnx", tmp_path / "w.bin"
    first.write_bytes(b"graph")
    second.write_bytes(b"weights")
    files = {"model.onnx": first, "data/w.bin": second}
    key = model_key({name: sha256_of(path) for name, path in files.items()})
    pack_model(files, tmp_path / "m.zip")
    cache = tmp_path / "cache"
    with (tmp_path / "m.zip").open("rb") as stream:
        receive_model(stream, key, cache)
    assert model_path(key, cache).read_bytes() == b"graph"
    assert (model_path(key, cache).parent / "data" / "w.bin").read_bytes() == b"weights"
    receive_model(io.BytesIO(b"not looked at"), key, cache)
    with (tmp_path / "m.zip").open("rb") as stream, pytest.raises(PackageError, match="not the one"):
        receive_model(stream, "0" * 64, cache)
    assert [path.name for path in (cache / "models").iterdir()] == [key]


def test_external_weights_belong_to_a_model(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from small_models import chain

    chain(tmp_path / "a.onnx")
    alone = model_of(tmp_path / "a.onnx")
    assert list(alone.files) == ["model.onnx"]
    model = onnx.load(tmp_path / "a.onnx")
    onnx.save(model, tmp_path / "b.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    apart = model_of(tmp_path / "b.onnx")
    assert list(apart.files) == ["model.onnx", "w.bin"]
    content = bytearray((tmp_path / "w.bin").read_bytes())
    content[0] ^= 1
    (tmp_path / "w.bin").write_bytes(content)
    assert model_of(tmp_path / "b.onnx").key != apart.key != alone.key


def test_a_received_package_is_whole_or_not_there(folder: Path, tmp_path: Path) -> None:
    scenario, home = load_scenario(folder / "scenario.yaml")
    package = make_package(tmp_path / "p.zip", scenario, home)
    cache = tmp_path / "cache"
    received = Received(package.sha256, cache)
    assert received.status().phase == "unknown"
    with pytest.raises(StoreError, match="not arrive whole"):
        received.receive(io.BytesIO(package.path.read_bytes()[:-1]))
    assert list((cache / "replays").iterdir()) == []
    with pytest.raises(StoreError, match="no such replay"):
        received.start()
    received.receive(io.BytesIO(package.path.read_bytes()))
    assert received.status().phase == "received"
    assert not received.alive()
    received.remove()
    received.remove()
    assert list((cache / "replays").iterdir()) == []


@pytest.mark.parametrize("name", ["", "../../etc", "0" * 63, "G" * 64, "0" * 64 + "/.."])
def test_replays_and_models_are_named_by_hashes(name: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="SHA-256"):
        Received(name, tmp_path)
    with pytest.raises(StoreError, match="SHA-256"):
        receive_model(io.BytesIO(b""), name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_package_of_another_version_is_refused(folder: Path, tmp_path: Path) -> None:
    scenario, home = load_scenario(folder / "scenario.yaml")
    good = make_package(tmp_path / "good.zip", scenario, home)
    written(tmp_path / "bad.zip", set_key("version", value="99.0")(members_of(good.path)))
    words = [sys.executable, "-m", "edgesched.bridge.remote.receive", "run", "bad.zip", "--out", "results"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "made by edgesched 99.0" in ended.stderr
    assert len(ended.stderr.splitlines()) == 2  # the note on the policy's code, and the error
    assert not (tmp_path / "results").exists()


def test_a_missing_model_is_named(folder: Path, tmp_path: Path) -> None:
    changes = {"policy": "fifo", "workload": {"arrivals": {"process": "batch"}, "networks": ["AgeNet"]}}
    scenario, home = load_scenario(folder / "scenario.yaml", changes)
    data = scenario.model_dump(mode="json")
    data["workload"]["streams"][0]["networks"] = {"mix": "fixed", "networks": ["face.onnx"]}
    scenario = type(scenario).model_validate(data)
    package = make_package(tmp_path / "p.zip", scenario, home, models={"face.onnx": Model("0" * 64, {})})
    assert package.manifest.models == {"face.onnx": "0" * 64}
    words = [sys.executable, "-m", "edgesched.bridge.remote.receive", "run", "p.zip", "--out", "results"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "face.onnx is not here: give the file with --model" in ended.stderr
