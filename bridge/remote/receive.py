"""What a replay on another machine needs there: ``python3 -m edgesched.bridge.remote.receive``.

    run PACKAGE.zip --out FOLDER    replay a package that was copied here by hand

All other words are what ``edgesched replay --device ssh://...`` calls; see ``remote.py``. They answer with
lines ``edgesched: {json}``, so that whatever a login shell prints cannot be taken for an answer.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from .store import UNDER_WAY, Received, Status, StoreError, model_path, pack_model, receive_model

MARK = "edgesched: "
RESULT_MANIFEST = "result.json"
LOOK_EVERY_S = 0.5
HEARTBEAT_S = 5.0


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words say; returns the exit code: 2 with one message for what a user can put right."""
    parser = argparse.ArgumentParser(
        prog="python3 -m edgesched.bridge.remote.receive", description=__doc__.split(":")[0]
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="WORD")
    by_hand = verbs.add_parser("run", help="replay a package that was copied here")
    by_hand.add_argument("package", type=Path)
    by_hand.add_argument("--out", type=Path, required=True, help="folder for the results")
    by_hand.add_argument(
        "--model", type=Path, action="append", default=[], help="a model.onnx of the scenario; repeatable"
    )
    verbs.add_parser("put-model", help="take a model from standard input").add_argument("key")
    for verb, what in (
        ("status", "tell how far a replay is"),
        ("put", "take a package from standard input; tell which models are missing"),
        ("start", "replay it, whatever becomes of the connection"),
        ("watch", "tell how far it is until it ends"),
        ("stop", "end it, keeping what was measured"),
        ("fetch", "write its result to standard output"),
        ("remove", "forget it"),
        ("work", "what start starts"),
    ):
        verbs.add_parser(verb, help=what).add_argument("sha256")
    given = parser.parse_args(words)
    try:
        if given.verb == "run":
            return _run(given.package, given.out, given.model)
        return _answer(given)
    except BrokenPipeError:  # whoever asked has gone
        os._exit(1)
    except KeyboardInterrupt:
        return 130
    except (ValueError, ImportError, OSError) as error:
        if given.verb == "run":
            print(" ".join(str(error).split()), file=sys.stderr)
        else:
            _say({"error": " ".join(str(error).split())})
        return 2


# -- by hand ----------------------------------------------------------------------------------------------


def _run(path: Path, out: Path, models: Sequence[Path]) -> int:
    from ..bundles.cache import cache_folder
    from ..interrupts import Interrupts
    from .package import model_of, open_package, unpack_package
    from .packaged import EXIT, replay_package

    package = open_package(path)
    cache = cache_folder().absolute()
    if package.manifest.policy is not None:
        print(
            f"the policy is code that came with the package: {package.scenario.policy.name}", file=sys.stderr
        )
    for file in models:
        _keep(model_of(file), cache)
    said = ""

    def tell(status: Status) -> None:
        nonlocal said
        if status.message not in ("", said):
            said = status.message
            print(said, file=sys.stderr)

    with Interrupts() as interrupts, tempfile.TemporaryDirectory(prefix="edgesched-") as scratch:
        content = Path(scratch) / "content"
        unpack_package(package, content)
        outcome = replay_package(package, content, out, cache, tell, interrupts)
    print(f"{outcome}: {out}")
    return EXIT[outcome]


def _keep(model: Any, cache: Path) -> None:
    """Put a model into the store."""
    if not model_path(model.key, cache).exists():
        with tempfile.TemporaryDirectory(prefix="edgesched-") as scratch:
            packed = Path(scratch) / "model.zip"
            pack_model(dict(model.files), packed)
            with packed.open("rb") as file:
                receive_model(file, model.key, cache)


# -- for the other side -----------------------------------------------------------------------------------


def _answer(given: Any) -> int:
    from ..bundles.cache import cache_folder

    cache = cache_folder().absolute()
    if given.verb == "put-model":
        receive_model(sys.stdin.buffer, given.key, cache)
        _say({})
        return 0
    received = Received(given.sha256, cache)
    match given.verb:
        case "work":
            _work(received)
        case "watch":
            _watch(received)
        case "fetch":
            _fetch(received)
        case "put":
            from .package import open_package
            from .packaged import missing_models

            received.receive(sys.stdin.buffer)
            _say({"missing": missing_models(open_package(received.package), cache)})
        case "status":
            _say(asdict(received.status()))
        case "start":
            received.start()
            _say(asdict(received.status()))
        case "stop":
            received.stop()
            _say({})
        case "remove":
            received.remove()
            _say({})
    return 0


def _say(data: dict[str, Any]) -> None:
    print(MARK + json.dumps(data), flush=True)


def _work(received: Received) -> NoReturn:
    """Replay; what becomes of it stands in the status."""
    from ..interrupts import Interrupts, collected
    from .package import open_package
    from .packaged import replay_package

    status = Status("preparing")

    def tell(now: Status) -> None:
        nonlocal status
        status = now
        received.tell(now)

    try:
        with collected():  # an interrupt after the replay is too late
            with Interrupts() as interrupts:
                package = open_package(received.package)
                outcome = replay_package(
                    package, received.content, received.result, received.cache, tell, interrupts
                )
            tell(replace(status, phase="done", outcome=outcome, message=""))
    except KeyboardInterrupt:
        tell(
            replace(
                status, phase="failed", outcome="interrupted", message="interrupted while it was prepared"
            )
        )
    except Exception as error:
        import traceback

        traceback.print_exc()
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        tell(replace(status, phase="failed", message=kind + " ".join(str(error).split())))
    sys.exit(0)


def _watch(received: Received) -> None:
    """Say the status whenever it changes, and now and then, until it ends."""
    said: Status | None = None
    said_s = 0.0
    while True:
        status = received.status()
        now_s = time.monotonic()
        if status != said or now_s - said_s >= HEARTBEAT_S:
            _say(asdict(status))
            said, said_s = status, now_s
        if status.phase not in UNDER_WAY:
            return
        time.sleep(LOOK_EVERY_S)


def _fetch(received: Received) -> None:
    from .archive import pack, sha256_of

    if received.status().phase != "done":
        raise StoreError("there is no result yet")
    files = {path.name: path for path in received.result.iterdir()}
    with tempfile.TemporaryDirectory(dir=received.folder) as scratch:
        packed = Path(scratch) / "result.zip"
        manifest = {"format": "edgesched result", "format_version": 1, "package": received.sha256}
        pack(packed, RESULT_MANIFEST, manifest, dict(files))
        _say({"bytes": packed.stat().st_size, "sha256": sha256_of(packed)})
        with packed.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
