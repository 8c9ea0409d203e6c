"""Replays on another machine, which is this one, reached through an ssh server of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from loopback import Server, server

from edgesched.bridge.remote.ssh import Address, Line, SshError
from edgesched.runs.folder import open_run

BOARD = {
    "name": "here",
    "processors": [{"name": "cpu", "cores": 2}],
    "memory": {"total_bytes": 1 << 34, "base_bytes": 40_000_000},
    "storage": {"reads": "cached"},
    "runtime": {"weights_lifetime": "layer", "outputs_lifetime": "arena", "load_copies": False},
    "cost": {"execute": {"other": {"call_s": 0.0001, "mac_s": 2e-11}}, "load_call_s": 0.0001},
}
POLICY = "from edgesched.policies.linear import Linear\n\n\nclass Mine(Linear):\n    pass\n"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where this side puts its temporary files: a short path, as sockets need it."""
    folder = Path(tempfile.mkdtemp(prefix="es", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


class Near:
    """This side: a folder with a scenario, and the command line."""

    def __init__(self, folder: Path, there: Server, scratch: Path) -> None:
        self.folder = folder
        self.there = there
        self.scratch = scratch
        self.environment = {
            **os.environ,
            "EDGESCHED_SSH_OPTIONS": there.options,
            "EDGESCHED_CACHE": str(folder / "unused"),
            "TMPDIR": str(scratch),
        }

    def scenario(self, name: str = "scenario.yaml", **changes: Any) -> Path:
        data = {
            "name": "one small network",
            "device": {"board": "here.yaml"},
            "workload": {
                "arrivals": {"process": "deterministic", "period_s": 0.05},
                "networks": ["small.onnx"],
            },
            "policy": "linear",
            "run": {"requests": 4, "seed": 5},
            **changes,
        }
        path = self.folder / name
        path.write_text(yaml.safe_dump(data))
        return path

    def command(self, *words: object) -> list[str]:
        main = "from edgesched.cli.main import main; main()"
        return [sys.executable, "-c", main, "replay", *map(str, words), "--device", self.there.url]

    def start(self, *words: object, python: str = sys.executable) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.command(*words), "--python", python],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: object, python: str = sys.executable) -> tuple[int, str, str]:
        """Exit code, standard output, standard error; nothing may be left on this side."""
        before = set(self.scratch.iterdir())
        process = self.start(*words, python=python)
        out, said = process.communicate(timeout=120)
        assert set(self.scratch.iterdir()) == before
        return process.returncode, out, said

    def replays(self) -> list[Path]:
        """What the other side keeps of replays."""
        return [path for path in (self.there.cache / "replays").glob("*") if path.name != ".gate"]

    def wait_for(self, phase: str, tasks: int = 0) -> dict[str, Any]:
        """The other side's status once it is there."""
        for _ in range(1200):
            for path in self.replays():
                try:
                    status = json.loads((path / "status.json").read_text())
                except (OSError, ValueError):
                    continue
                if status["phase"] == phase and status["tasks"] >= tasks:
                    return dict(status)
            time.sleep(0.05)
        raise AssertionError(f"never {phase}")


@pytest.fixture
def near(tmp_path: Path, there: Server, scratch: Path) -> Near:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from small_models import chain

    chain(tmp_path / "small.onnx", channels=8, features=(32,), side=16)
    (tmp_path / "here.yaml").write_text(json.dumps(BOARD))
    (tmp_path / "mine.py").write_text(POLICY)
    return Near(tmp_path, there, scratch)


LONG = {"run": {"requests": 100, "seed": 5}}  # five seconds


# --- whole replays ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_results_come_back_as_from_a_local_replay(near: Near, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = near.scenario(run={"requests": 4, "replications": 2, "seed": 5}, policy="mine.py:Mine")
    code, out, said = near.run(scenario, "--out", near.folder / "results", "--json", near.folder / "s.json")
    assert code == 0, said
    assert "small.onnx: sending" in said
    assert "its code runs there" in said
    assert "Verdict: ok" in out
    assert "on 127.0.0.1" in out
    assert not list(near.folder.glob(".edgesched-*"))
    assert near.replays() == []
    run = open_run(near.folder / "results")
    assert run.scenario["device"]["board"] == "here.yaml"
    assert run.scenario["policy"]["name"] == run.info["policy"] == "mine.py:Mine"
    assert json.loads((near.folder / "s.json").read_text()) == run.summary
    facts = run.replay()
    assert facts is not None
    assert [each["outcome"] for each in facts] == ["done", "done"]
    assert set(run.jobs()["network"]) == {"small"}
    local = [sys.executable, "-c", "from edgesched.cli.main import main; main()", "replay", str(scenario)]
    monkeypatch.chdir(near.folder)
    environment = {**near.environment, "TMPDIR": str(near.folder)}  # onnxruntime leaves a file there
    subprocess.run([*local, "--out", "local"], env=environment, check=True, capture_output=True, timeout=120)
    here = open_run(near.folder / "local")
    assert here.scenario == run.scenario
    for table in ("requests", "jobs", "tasks", "memory"):
        mine, theirs = getattr(here, table)(), getattr(run, table)()
        assert list(mine.columns) == list(theirs.columns)
        assert [kind.kind for kind in mine.dtypes] == [kind.kind for kind in theirs.dtypes]
        if table != "memory":
            assert len(mine) == len(theirs)
    # The model is there now, and the results replace those of before.
    code, _, said = near.run(scenario, "--out", near.folder / "results")
    assert code == 0
    assert "sending" not in said


@pytest.mark.slow
def test_a_dropped_line_does_not_end_the_replay(near: Near) -> None:
    process = near.start(near.scenario(**LONG), "--out", near.folder / "results")
    near.wait_for("replaying", tasks=5)
    os.kill(master_of(process.pid), signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "connecting again" in said
    run = open_run(near.folder / "results")
    assert len(run.requests()) == 100
    assert run.summary["together"]["status"] == "ok"
    assert near.replays() == []


def master_of(pid: int) -> int:
    """The process that holds the connection: a child of ours that was told to."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if parent == pid and words[:2] == [b"ssh", b"-M"]:
            return int(folder.name)
    raise AssertionError("no connection")


@pytest.mark.slow
def test_the_same_command_finds_its_replay_again(near: Near) -> None:
    scenario = near.scenario(**LONG)
    first = near.start(scenario, "--out", near.folder / "results")
    status = near.wait_for("replaying", tasks=5)
    lock = (near.replays()[0] / "lock").read_text()
    first.kill()
    first.communicate()
    for left in near.scratch.iterdir():  # nobody can tidy up after a SIGKILL
        shutil.rmtree(left)
    for left in near.folder.glob(".edgesched-*"):
        shutil.rmtree(left)
    second = near.start(scenario, "--out", near.folder / "results")
    _, said = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert "this replay is under way there" in said or "this replay is done there" in said
    assert lock.strip().isdigit()
    run = open_run(near.folder / "results")
    assert len(run.tasks()) == status["all_tasks"]
    assert near.replays() == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_fetches_what_was_measured(near: Near, number: signal.Signals) -> None:
    process = near.start(near.scenario(run={"requests": 2000, "seed": 5}), "--out", near.folder / "results")
    near.wait_for("replaying", tasks=10)
    process.send_signal(number)
    out, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "interrupted by SIGTERM" in out
    run = open_run(near.folder / "results")
    facts = run.replay()
    assert facts is not None
    assert facts[0]["outcome"] == "interrupted"
    assert 10 <= len(run.tasks()) < 2000
    assert near.replays() == []
    assert list(near.scratch.iterdir()) == []


@pytest.mark.slow
def test_a_replay_that_is_killed_there_is_told(near: Near) -> None:
    process = near.start(near.scenario(**LONG), "--out", near.folder / "results")
    near.wait_for("replaying", tasks=5)
    os.kill(int((near.replays()[0] / "lock").read_text()), signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "127.0.0.1: it ended without a word" in said
    assert not (near.folder / "results").exists()
    assert near.replays() == []


@pytest.mark.slow
def test_an_interrupt_before_anything_was_measured(near: Near) -> None:
    process = near.start(near.scenario(**LONG), "--out", near.folder / "results")
    near.wait_for("preparing")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert not (near.folder / "results").exists() or open_run(near.folder / "results").replay()
    assert near.replays() == []


@pytest.mark.slow
def test_a_second_replay_does_not_disturb_the_first(near: Near) -> None:
    first = near.start(near.scenario(**LONG))
    near.wait_for("replaying")
    code, _, said = near.run(near.scenario("other.yaml", run={"requests": 1, "seed": 6}))
    assert code == 2
    assert "another replay runs there" in said
    _, said = first.communicate(timeout=120)
    assert first.returncode == 0, said
    code, _, said = near.run(near.folder / "other.yaml")
    assert code == 0, said


@pytest.mark.slow
def test_what_cannot_be_replayed_there_is_one_message(near: Near) -> None:
    near.folder.joinpath("here.yaml").write_text(json.dumps({**BOARD, "runtime": {"load_copies": False}}))
    code, out, said = near.run(near.scenario(), "--out", near.folder / "results")
    assert code == 2
    assert out == ""
    assert said.splitlines()[-1].startswith(
        "edgesched: 127.0.0.1: device here: a replay keeps a job's outputs"
    )
    assert not (near.folder / "results").exists()
    assert near.replays() == []


@pytest.mark.slow
def test_what_does_not_fit_there_is_a_result(near: Near) -> None:
    from small_models import chain

    chain(near.folder / "small.onnx", features=(3000, 3000), convolutions=1)  # 36 MB of weights
    limit = {"board": "here.yaml", "memory_limit": "50MiB"}
    code, out, said = near.run(near.scenario(device=limit), "--out", near.folder / "results")
    assert code == 0, said
    assert "Verdict: infeasible" in out
    assert "what does not fit" in out
    facts = open_run(near.folder / "results").replay()
    assert facts is not None
    assert facts[0]["outcome"] == "out of memory"


@pytest.mark.slow
def test_a_package_copied_by_hand(near: Near) -> None:
    scenario = near.scenario()
    main = [sys.executable, "-c", "from edgesched.cli.main import main; main()"]
    made = subprocess.run(
        [*main, "replay", str(scenario), "--package", "p.zip"],
        cwd=near.folder,
        env=near.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "run p.zip --out results --model small.onnx" in made.stderr
    words = [sys.executable, "-m", "edgesched.bridge.remote.receive", "run", "p.zip"]
    words += ["--out", "results", "--model", "small.onnx"]
    subprocess.run(words, cwd=near.folder, env=near.environment, check=True, timeout=120)
    run = open_run(near.folder / "results")
    assert run.replay() is not None
    assert run.scenario["device"]["board"] == "here.yaml"


# --- what is checked before anything is sent ----------------------------------------------------------------


def pretending(folder: Path, **found: object) -> str:
    """A Python that says this of itself, whatever it is asked."""
    good = {"python": [3, 11, 2], "machine": "aarch64", "edgesched": None, "onnx": "1", "onnxruntime": "1"}
    path = folder / "pretending"
    path.write_text(f"#!/bin/sh\ncat >/dev/null\necho 'edgesched: {json.dumps({**good, **found})}'\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"python": [3, 9, 2]}, "is Python 3.9.2, 3.11 or newer is needed"),
        ({}, "has no edgesched, here is"),
        ({"edgesched": "99.0"}, "has edgesched 99.0, here is"),
        ({"edgesched": "SAME", "why": "ImportError: x"}, "cannot be imported (ImportError: x)"),
        ({"edgesched": "SAME", "onnxruntime": None}, "has no onnxruntime"),
        ({"edgesched": "SAME", "onnxruntime": None, "onnx": None}, "has no onnx and no onnxruntime"),
    ],
)
def test_what_is_missing_there_is_told(near: Near, found: dict[str, Any], expected: str) -> None:
    from importlib.metadata import version

    same = {key: version("edgesched") if value == "SAME" else value for key, value in found.items()}
    code, _, said = near.run(near.scenario(), python=pretending(near.folder, **same))
    assert code == 2
    assert len(said.splitlines()) == 1
    assert expected in said
    assert f"pip install 'edgesched[bridge]=={version('edgesched')}'" in said
    assert near.replays() == []


def test_no_python_there(near: Near) -> None:
    code, _, said = near.run(near.scenario(), python="python-of-nobody")
    assert code == 2
    assert "python-of-nobody cannot be run there" in said
    assert len(said.splitlines()) == 1
    for wrong in ("-c", ""):
        code, _, said = near.run(near.scenario(), python=wrong)
        assert code == 2
        assert "is no Python" in said


def test_an_unknown_host_key_is_told(near: Near) -> None:
    config = (near.there.folder / "client").read_text().replace(str(near.there.folder / "known"), "/dev/null")
    (near.folder / "client").write_text(config)
    near.environment["EDGESCHED_SSH_OPTIONS"] = f"-F {near.folder}/client"
    code, _, said = near.run(near.scenario())
    assert code == 2
    assert "Host key verification failed" in said
    assert "log in once by hand" in said


def test_a_refused_key_is_told(near: Near) -> None:
    config = (near.there.folder / "client").read_text().replace("IdentityFile", "# ")
    (near.folder / "client").write_text(config + f"IdentityFile {near.folder}/nothing\n")
    near.environment["EDGESCHED_SSH_OPTIONS"] = f"-F {near.folder}/client"
    code, _, said = near.run(near.scenario())
    assert code == 2
    assert "Permission denied" in said
    assert "ssh-copy-id" in said


def test_no_ssh_here(near: Near) -> None:
    near.environment["PATH"] = str(near.folder)
    code, _, said = near.run(near.scenario())
    assert code == 2
    assert "no program ssh here" in said


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, there: Server) -> None:
    monkeypatch.setenv("EDGESCHED_SSH_OPTIONS", there.options)
    with Line(Address("127.0.0.1", None, 1)) as line, pytest.raises(SshError, match="Connection refused"):
        line.connect()


# --- addresses and lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ssh://pi", ["--", "pi"]),
        ("ssh://pi@raspberry.local/", ["-l", "pi", "--", "raspberry.local"]),
        ("ssh://pi@10.0.0.7:2222", ["-l", "pi", "-p", "2222", "--", "10.0.0.7"]),
        ("ssh://[fe80::1]:22", ["-p", "22", "--", "fe80::1"]),
        ("ssh://MyPi", ["--", "MyPi"]),
    ],
)
def test_addresses(url: str, words: list[str]) -> None:
    assert Address.parse(url).words == words


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pi",
        "pi@host",
        "http://host",
        "ssh://",
        "ssh:///path",
        "ssh://host/path",
        "ssh://host?x=1",
        "ssh://host#x",
        "ssh://-oProxyCommand=id",
        "ssh://-l@host",
        "ssh://user@-host",
        "ssh://us er@host",
        "ssh://user@ho st",
        "ssh://user@host;id",
        "ssh://$(id)@host",
        "ssh://user@`id`",
        "ssh://user@host%20",
        "ssh://user@host:",
        "ssh://user@host:0",
        "ssh://user@host:65536",
        "ssh://user@host:-1",
        "ssh://user@host:1x",
        "ssh://user:secret@host",
        "ssh://a@b@host",
        "ssh://[fe80::1%eth0]",
        "ssh://[x]",
        "ssh://host\n",
        "ssh://ho\x00st",
        "ssh://" + "a" * 300,
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(SshError) as caught:
        Address.parse(url)
    assert "secret" not in str(caught.value)


def test_words_reach_the_other_side_as_they_are(there: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESCHED_SSH_OPTIONS", there.options)
    words = ["a b", "$HOME", "`id`", "'", '"', "*", "", "\\", "ü", "; id"]
    with Line(Address.parse(there.url)) as line:
        line.connect()
        script = "import sys; print(sys.argv[1:])"
        with line.running([sys.executable, "-c", script, *words]) as running:
            said = running.stdout.read().decode()
            assert running.wait() == 0
        with line.running(["sh", "-c", "echo no >&2; exit 7"]) as running:
            running.stdout.read()
            assert running.wait() == 7
            assert running.said() == "no"
        line.close()
        with pytest.raises(SshError, match="down"), line.running(["true"]):
            pass
    assert said.splitlines()[-1] == repr(words)


def test_options_that_are_no_words(there: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESCHED_SSH_OPTIONS", "-o 'half")
    with Line(Address("127.0.0.1")) as line, pytest.raises(SshError, match="EDGESCHED_SSH_OPTIONS"):
        line.connect()
