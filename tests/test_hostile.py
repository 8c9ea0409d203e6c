"""Every broken input is one message and exit code 2: no traceback, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hostile_corpus import Case, corpus

from edgesched.cli.main import main

CASES = corpus()
SAMPLE = CASES[::30]


def test_the_corpus_is_large_and_distinct() -> None:
    assert len(CASES) >= 200
    distinct = {(tuple(sorted(case.files.items())), case.command) for case in CASES}
    assert len(distinct) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_input_is_one_message(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(case, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = _tree(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(case.command)
    _check(case, ended.value.code, *capsys.readouterr())
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_the_console_script_says_the_same(case: Case, tmp_path: Path) -> None:
    _write(case, tmp_path)
    before = _tree(tmp_path)
    call = [sys.executable, "-c", "from edgesched.cli.main import main; main()", *case.command]
    ended = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    _check(case, ended.returncode, ended.stdout, ended.stderr)
    assert _tree(tmp_path) == before


def _check(case: Case, code: object, out: str, err: str) -> None:
    assert code == 2, (code, out, err)
    assert out == ""
    assert "Traceback" not in err
    assert err.startswith("edgesched: ")
    assert err.count("\n") == 1, err
    assert err.count("edgesched: ") == 1
    assert len(err) < 2000
    assert case.word in err


def _write(case: Case, folder: Path) -> None:
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def _tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}
