"""Layer bundles on disk: the cache that keeps them, and damaged ones, which are refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx_graphs import fire, residual

from edgesched.bridge.bundles.bundle import BundleError, open_bundle

pytest.importorskip("onnxruntime", reason="needs the extra edgesched[bridge]")
from edgesched.bridge.bundles.cache import bundle_of, cache_folder


def test_the_cache_is_used_again(made: Any, tmp_path: Path) -> None:
    steps: list[str] = []
    first = made(fire(), progress=steps.append)
    assert steps[0] == "reading the model"
    before = first.weights_path.stat().st_mtime_ns
    steps.clear()
    again = made(fire(), name="other", progress=steps.append)
    assert not steps
    assert (again.folder, again.sha256, again.name) == (first.folder, first.sha256, "other")
    assert again.weights_path.stat().st_mtime_ns == before
    assert made(residual()).folder != first.folder
    assert sorted(p.name for p in first.folder.iterdir()) == ["bundle.json", "layers", "weights.raw"]


def test_two_processes_make_the_same_bundle(saved: Any, tmp_path: Path) -> None:
    path = saved(fire())
    code = (
        "import sys; from pathlib import Path; from edgesched.bridge.bundles.cache import bundle_of; "
        "print(bundle_of(Path(sys.argv[1]), cache=Path(sys.argv[2])).folder)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert folders[0] == folders[1]


def test_what_killed_makers_left_is_swept(saved: Any, tmp_path: Path) -> None:
    path = saved(fire())
    code = (
        "import os, signal, sys; from pathlib import Path; "
        "from edgesched.bridge.bundles.cache import bundle_of; "
        "stop = lambda text: os.kill(os.getpid(), signal.SIGKILL) if text.startswith('layer 3') else None; "
        "bundle_of(Path(sys.argv[1]), cache=Path(sys.argv[2]), progress=stop)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path), str(tmp_path / "cache")], check=False)
    assert killed.returncode == -signal.SIGKILL
    bundles = tmp_path / "cache" / "bundles"
    assert list(bundles.glob(".*.making"))
    bundle = bundle_of(path, cache=tmp_path / "cache")
    assert not list(bundles.glob(".*.making"))
    assert [p for p in bundles.iterdir() if p.is_dir()] == [bundle.folder]


def test_a_maker_at_work_is_left_alone(made: Any, saved: Any, tmp_path: Path) -> None:
    drafts: list[list[Path]] = []

    def look(text: str) -> None:
        if text == "optimising the network" and not drafts:
            drafts.append(list((tmp_path / "cache" / "bundles").glob(".*.making")))
            other = tmp_path / "other.onnx"
            other.write_bytes(residual().SerializeToString())
            bundle_of(other, cache=tmp_path / "cache")
            assert all(draft.exists() for draft in drafts[0])

    assert made(fire(), progress=look).layers
    assert len(drafts[0]) == 1


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EDGESCHED_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "edgesched"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/edgesched")
    monkeypatch.setenv("EDGESCHED_CACHE", "/y")
    assert cache_folder() == Path("/y")


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = json.loads((folder / "bundle.json").read_text())
        change(data)
        (folder / "bundle.json").write_text(json.dumps(data))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (lambda f: (f / "bundle.json").unlink(), "not a layer bundle"),
    "no folder": (shutil.rmtree, "not a layer bundle"),
    "no JSON": (lambda f: (f / "bundle.json").write_text("{"), "not JSON"),
    "no text": (lambda f: (f / "bundle.json").write_bytes(b"\xff\xfe"), "not JSON"),
    "a list": (lambda f: (f / "bundle.json").write_text("[]"), "not the description"),
    "another format": (edit(lambda d: d.update(format="zip")), "not the description"),
    "a later version": (edit(lambda d: d.update(format_version=2)), "format version 2"),
    "a field too many": (edit(lambda d: d.update(colour="red")), "colour"),
    "a field too few": (edit(lambda d: d.pop("arena_bytes")), "arena_bytes"),
    "no weights": (lambda f: (f / "weights.raw").unlink(), r"weights\.raw: is missing"),
    "weights cut short": (lambda f: os.truncate(f / "weights.raw", 4096), r"weights\.raw: has 4096 bytes"),
    "a model missing": (lambda f: (f / "layers/001.onnx").unlink(), r"001\.onnx: is missing"),
    "a model emptied": (lambda f: os.truncate(f / "layers/001.onnx", 0), r"001\.onnx: has 0 bytes"),
    "a model elsewhere": (edit(lambda d: d["layers"][0].update(model="../x.onnx")), r"layers\.0\.model"),
    "a weight outside": (edit(lambda d: d["layers"][0]["weights"][0].update(offset=1 << 20)), "outside the"),
    "a part elsewhere": (edit(lambda d: d["layers"][1].update(weights_offset=1 << 20)), "has its weights at"),
    "a tensor outside": (edit(lambda d: d["tensors"][1].update(offset=1 << 30)), "outside the arena"),
    "a tensor too small": (edit(lambda d: d["tensors"][1].update(bytes=4)), "its shape needs"),
    "a tensor unknown": (edit(lambda d: d["layers"][1].update(inputs=["nothing"])), "'nothing'"),
    "an unknown data type": (edit(lambda d: d["tensors"][0].update(dtype="text")), r"tensors\.0\.dtype"),
    "a layer that reads itself": (edit(lambda d: d["layers"][1].update(reads=[1])), "reads the layers"),
    "a life cut short": (edit(lambda d: d["tensors"][1].update(last_use=0)), "after its last use"),
    "another machine": (edit(lambda d: d.update(machine="vax")), "was made for .* on vax"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bundles_are_refused(damage: str, made: Any) -> None:
    folder = made(fire()).folder
    harm, message = DAMAGES[damage]
    harm(folder)
    with pytest.raises(BundleError, match=message) as refused:
        open_bundle(folder)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_bundle_of_another_machine_can_be_looked_at(made: Any) -> None:
    folder = made(fire()).folder
    edit(lambda d: d.update(machine="vax"))(folder)
    assert open_bundle(folder, elsewhere=True).network().layers
