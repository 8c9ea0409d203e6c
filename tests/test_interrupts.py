"""Interrupts: none is lost, none hits the middle of an import."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from edgesched.bridge.bundles.libraries import import_runtime
from edgesched.bridge.interrupts import NUMBERS, Interrupts, collected, held


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    before = [signal.getsignal(number) for number in NUMBERS]
    yield
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.parametrize("number", NUMBERS)
def test_both_signals_are_interrupts(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(number)


@pytest.mark.parametrize("number", NUMBERS)
def test_collected_ones_raise_nothing(number: signal.Signals) -> None:
    with collected() as seen:
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert seen == [number, number]


def test_held_ones_come_afterwards() -> None:
    done = []

    def work() -> None:
        with held():
            signal.raise_signal(signal.SIGTERM)
            done.append("to the end")
        done.append("not reached")

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["to the end"]
    assert interrupts.seen == [signal.SIGTERM]


class Dropped:
    """Something whose destructor is interrupted, where Python drops what is raised."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_python_dropped_is_known() -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        Dropped()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_one_that_became_another_exception_is_an_interrupt_again() -> None:
    def imports() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    with pytest.raises(KeyboardInterrupt) as caught, Interrupts():
        imports()
    assert isinstance(caught.value.__cause__, ImportError)


def test_once_answered_other_errors_are_themselves() -> None:
    def work() -> None:
        with Interrupts() as interrupts:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            interrupts.answered()
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        work()


def test_the_runtime_is_imported_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGTERM)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        import_runtime()
    assert sys.modules["onnxruntime"].whole
    monkeypatch.delitem(sys.modules, "onnxruntime")
