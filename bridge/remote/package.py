"""A replay as one file that another device can run: the scenario and what it names, as data.

    package.json     this description: scenario, replications, models by hash, every file's hash
    board.yaml       the board, whole (nothing is looked up in the other side's catalogue)
    profile.csv      its profile, where that is a file
    arrivals/N.csv   the recorded arrivals that the scenario replays
    policy.py        only where the scenario or ``--policy`` names a file: the one piece of code

Models are not in it: a device keeps each one that it was sent (``store.py``). Layer bundles are made there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ...devices import boards
from ...devices.explain import explain
from ...devices.reading import InputError
from ...policies import registry
from ...runs.load import scenario_of
from ...runs.resolve import located
from ...runs.scenario import Scenario
from ...workloads.arrivals import Replay
from .archive import PackageError, pack, read_manifest, sha256_of, unpack

__all__ = ["Manifest", "Model", "Package", "PackageError", "make_package", "open_package", "unpack_package"]

FORMAT_VERSION = 1
MANIFEST = "package.json"
BOARD = "board.yaml"
PROFILE = "profile.csv"
POLICY = "policy.py"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Member(_Part):
    """A file of the package."""

    sha256: Sha256


class Manifest(_Part):
    """What ``package.json`` holds."""

    format: Literal["edgesched package"] = "edgesched package"
    format_version: Literal[1] = 1
    version: str
    """Of edgesched where the package was made."""
    scenario: dict[str, Any]
    """In the normal form, with the names that its author gave to files."""
    replications: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=10_000)], ...], Field(min_length=1, max_length=10_000)
    ]
    """Numbers of the replications to replay, in this order."""
    nice: Annotated[int, Field(ge=-20, le=19)] = 0
    arrivals: dict[str, str] = {}
    """File in the scenario: member."""
    policy: Literal["policy.py"] | None = None
    models: dict[str, Sha256] = {}
    """Network in the scenario (``model.onnx``): the key of its model."""
    members: dict[str, Member]


@dataclass(frozen=True)
class Model:
    """A user's model: ``files`` by the names under which the model refers to them, itself first."""

    key: str
    files: Mapping[str, Path]


@dataclass(frozen=True)
class Package:
    """A package file that was checked; ``sha256`` is what the other device knows it by."""

    path: Path
    sha256: str
    manifest: Manifest
    scenario: Scenario
    """As its author wrote it."""

    @property
    def runnable(self) -> Scenario:
        """The scenario with the names that files have in the unpacked package."""
        data = self.scenario.model_dump(mode="json")
        data["device"]["board"] = BOARD
        for stream in data["workload"]["streams"]:
            if stream["arrivals"]["process"] == "replay":
                stream["arrivals"]["file"] = self.manifest.arrivals[stream["arrivals"]["file"]]
        if self.manifest.policy is not None:
            data["policy"]["name"] = self.manifest.policy + _class_of(self.scenario.policy.name)
        return Scenario.model_validate(data)


def make_package(
    path: Path,
    scenario: Scenario,
    folder: Path | None = None,
    *,
    nice: int = 0,
    models: Mapping[str, Model] | None = None,
) -> Package:
    """Write the package of a checked scenario; ``folder`` is where its relative files are looked up.

    ``models`` are those that its networks name (``models_of``). The same content gives the same bytes. Raises
    PackageError.
    """
    found = models or {}
    members: dict[str, bytes | Path] = dict(_board(scenario, folder))
    arrivals = {name: f"arrivals/{i}.csv" for i, name in enumerate(_recordings(scenario))}
    for name, member in arrivals.items():
        members[member] = (folder or Path()) / name
    code = registry.is_file(scenario.policy.name)
    if code:
        members[POLICY] = policy_file(scenario, folder)
    manifest = {
        "format": "edgesched package",
        "format_version": FORMAT_VERSION,
        "version": metadata.version("edgesched"),
        "scenario": scenario.model_dump(mode="json"),
        "replications": list(range(scenario.run.replications)),
        "nice": nice,
        "arrivals": arrivals,
        "policy": POLICY if code else None,
        "models": {name: model.key for name, model in found.items()},
    }
    pack(path, MANIFEST, manifest, members)
    return open_package(path)


def open_package(path: Path) -> Package:
    """Read and check a package's description. Raises PackageError."""
    text = read_manifest(path, MANIFEST)
    try:
        head = json.loads(text)
        version = head.get("format_version") if isinstance(head, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise PackageError(
                f"{path}: a package in format {version}; this version reads up to {FORMAT_VERSION}"
            )
        manifest = Manifest.model_validate(head)
        scenario = scenario_of(manifest.scenario)
    except ValidationError as error:
        raise PackageError(f"{path}: {MANIFEST}: {explain(error, Manifest, head).text}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, PackageError):
            raise
        raise PackageError(f"{path}: {MANIFEST}: {error}") from error
    _check_files(path, manifest, scenario)
    return Package(path, sha256_of(path), manifest, scenario)


def unpack_package(package: Package, folder: Path) -> None:
    """Write the package's files into the new folder ``folder``, every hash checked. Raises PackageError."""
    unpack(package.path, MANIFEST, folder, lambda name: name in package.manifest.members)
    try:
        _check_board(package, str(folder / BOARD))
    except ValueError:
        shutil.rmtree(folder)
        raise


def models_of(names: Iterable[str], folder: Path | None = None) -> dict[str, Model]:
    """The models among the networks ``names`` (``model.onnx``), their external weight files found.

    Raises PackageError where a file cannot be read or sent, ImportError without onnx.
    """
    return {name: model_of((folder or Path()) / name) for name in names if name.lower().endswith(".onnx")}


def model_of(path: Path) -> Model:
    """A model file with its external weight files. Raises PackageError, ImportError without onnx."""
    from ..bundles.cache import external_files

    files = {"model.onnx": path}
    for external in external_files(path):
        name = external.relative_to(path.parent).as_posix()
        if name in files:
            raise PackageError(f"{path}: keeps weights in a file {name}, which is taken; rename that file")
        files[name] = external
    try:
        return Model(model_key({name: sha256_of(file) for name, file in files.items()}), files)
    except OSError as error:
        raise PackageError(f"{error.filename}: {error.strerror}") from error


def model_key(sha256: Mapping[str, str]) -> str:
    """What a model is kept under: the SHA-256 of the names and hashes of its files."""
    lines = "".join(f"{sha256[name]} {name}\n" for name in sorted(sha256))
    return sha256_of(lines.encode())


def policy_file(scenario: Scenario, folder: Path | None = None) -> Path:
    """The Python file that the scenario's policy is in."""
    name = located(scenario.policy.name, folder)
    return Path(name.removesuffix(_class_of(name)))


def _class_of(policy: str) -> str:
    """``:Class``, or nothing where the file has only one."""
    _, mark, attribute = policy.partition(".py:")
    return f":{attribute}" if mark else ""


def _recordings(scenario: Scenario) -> list[str]:
    files = [s.arrivals.file for s in scenario.workload.streams if isinstance(s.arrivals, Replay)]
    return list(dict.fromkeys(files))


def _is_file(profile: str) -> bool:
    """Whether ``read_profile`` takes it for a path."""
    return "/" in profile or "\\" in profile or profile.lower().endswith(".csv")


def _check_board(package: Package, file: str) -> None:
    """A board may refer to others and to files; one from elsewhere must not reach what is here."""
    try:
        data = boards.raw(file)
        cost = data.get("cost")
        profile = cost.get("profile") if isinstance(cost, dict) else None
        own = profile == PROFILE and PROFILE in package.manifest.members
        if "like" in data or (isinstance(profile, str) and _is_file(profile) and not own):
            raise PackageError(f"{package.path}: {BOARD} refers to files outside the package")
        boards.load(file)
    except (boards.BoardError, InputError) as error:
        raise PackageError(f"{package.path}: {error}") from error


def _board(scenario: Scenario, folder: Path | None) -> dict[str, bytes | Path]:
    """The board as it was before the scenario's changes, and its profile."""
    board = boards.load(located(scenario.device.board, folder))
    data = board.model_dump(mode="json", exclude={"calibration"})
    files: dict[str, bytes | Path] = {}
    if board.cost.profile is not None and _is_file(board.cost.profile):
        files[PROFILE] = Path(board.cost.profile)
        data["cost"]["profile"] = PROFILE
    # JSON is YAML in which no text can be taken for a number.
    files[BOARD] = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    return files


def _check_files(path: Path, manifest: Manifest, scenario: Scenario) -> None:
    """What the scenario names must be what the package brings, and nothing else may be in it."""
    expected = {BOARD, *manifest.arrivals.values()}
    if manifest.policy is not None:
        expected.add(manifest.policy)
    brought = set(manifest.members) - {PROFILE}
    if expected != brought:
        odd = sorted(expected ^ brought)
        raise PackageError(
            f"{path}: {', '.join(odd[:3])} is missing in the package, or does not belong there"
        )
    if manifest.arrivals != {name: f"arrivals/{i}.csv" for i, name in enumerate(_recordings(scenario))}:
        raise PackageError(f"{path}: its arrivals are not those that its scenario replays")
    if (manifest.policy is not None) != registry.is_file(scenario.policy.name):
        raise PackageError(f"{path}: its policy is not the one that its scenario names")
    for name in manifest.models:
        if not name.lower().endswith(".onnx"):
            raise PackageError(f"{path}: {name!r} is given as a model, which ends in .onnx")
    unnamed = [n for n in _named(scenario) if n.lower().endswith(".onnx") and n not in manifest.models]
    if unnamed:
        raise PackageError(f"{path}: no model is given for the network {unnamed[0]!r}")


def _named(scenario: Scenario) -> Sequence[str]:
    """Networks that the scenario itself names; those in arrival files are known once it is unpacked."""
    from ...workloads.mix import names_of

    mixes = [stream.networks for stream in scenario.workload.streams if stream.networks is not None]
    return [name for mix in mixes for name in names_of(mix)]
