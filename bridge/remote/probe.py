"""Whether another machine can replay, found out before anything is sent; and how to read its answers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

from .receive import MARK
from .ssh import Line, Running

LEAST_PYTHON = (3, 11)

Tell = Callable[[str], None]

# Runs on whatever Python is there, so it may use nothing new.
_PROBE = """
import json, platform, sys
try:
    from importlib.metadata import version
except ImportError:
    version = None
found = {"python": list(sys.version_info[:3]), "machine": platform.machine()}
for name in ("edgesched", "onnx", "onnxruntime"):
    try:
        found[name] = version(name)
    except Exception:
        found[name] = None
try:
    import edgesched.bridge.remote.receive
except Exception as error:
    found["why"] = "%s: %s" % (type(error).__name__, error)
print("MARK" + json.dumps(found))
""".replace("MARK", MARK)


class RemoteError(ValueError):
    """The other machine cannot replay, or what came back is not a result; the message says which and why."""


def check(line: Line, python: str, tell: Tell) -> None:
    """Find out whether the machine behind ``line`` can replay with the Python of that name.

    Raises RemoteError with what to install there, and SshError.
    """
    host = line.address.host
    found = _probed(line, python)
    version = metadata.version("edgesched")
    install = (
        f"on {host} run: python3 -m venv edgesched && edgesched/bin/pip install "
        f"'edgesched[bridge]=={version}', then give --python edgesched/bin/python here"
    )
    if tuple(found["python"]) < LEAST_PYTHON:
        seen = ".".join(map(str, found["python"]))
        raise RemoteError(f"{host}: {python} there is Python {seen}, 3.11 or newer is needed; {install}")
    if found["edgesched"] != version:
        seen = f"edgesched {found['edgesched']}" if found["edgesched"] else "no edgesched"
        raise RemoteError(f"{host}: {python} there has {seen}, here is {version}; {install}")
    if "why" in found:
        raise RemoteError(f"{host}: edgesched there cannot be imported ({found['why']}); {install}")
    lacking = [name for name in ("onnx", "onnxruntime") if not found[name]]
    if lacking:
        raise RemoteError(f"{host}: {python} there has no {' and no '.join(lacking)}; {install}")
    tell(f"{host}: {found['machine']}, onnxruntime {found['onnxruntime']}, onnx {found['onnx']}")
    here = _installed("onnxruntime")
    if here not in (None, found["onnxruntime"]):
        tell(f"note: onnxruntime here is {here}; layers may be cut differently")


def _probed(line: Line, python: str) -> dict[str, Any]:
    """What the other side's Python says about itself."""
    host = line.address.host
    with tempfile.TemporaryFile() as script:
        script.write(_PROBE.encode())
        script.seek(0)
        with line.running([python, "-"], script) as there:
            found = list(answers(there))
            code = there.wait()
            if not found:
                said = there.said() or f"exit code {code}"
                raise RemoteError(
                    f"{host}: {python} cannot be run there ({said}); install Python 3.11 "
                    f"or newer, or give its path with --python"
                )
            return found[-1]


def answers(there: Running) -> Iterator[dict[str, Any]]:
    """The lines that are meant for us; what a login shell prints is not."""
    mark = MARK.encode()
    for line in iter(there.stdout.readline, b""):
        if line.startswith(mark):
            try:
                answer = json.loads(line[len(mark) :])
            except ValueError as error:
                raise RemoteError(f"{there.address.host}: an answer that is none: {error}") from error
            if not isinstance(answer, dict):
                raise RemoteError(f"{there.address.host}: an answer that is none: {str(answer)[:80]}")
            yield answer


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
