"""Policies by name: built in, from a file (``path/to/file.py:ClassName``) or from an entry point.

Other packages offer policies in the entry-point group ``edgesched.policies``.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from .contract import Policy

GROUP = "edgesched.policies"

BUILT_IN: dict[str, str] = {
    "fifo": "fifo:Fifo",
    "multi-bulk": "multi_bulk:MultiBulk",
    "linear": "linear:Linear",
    "partial": "partial:Partial",
    "pipeline": "pipeline:Pipeline",
    "deepeye": "deepeye:DeepEye",
    "deepeye-frugal": "deepeye:DeepEyeFrugal",
    "masa": "masa:Masa",
    "sjf": "sjf:Sjf",
    "edf": "edf:Edf",
    "hrrn": "hrrn:Hrrn",
    "pareto": "pareto:Pareto",
    "pareto-online": "pareto_online:ParetoOnline",
}


class PolicyError(ValueError):
    """A policy cannot be found, loaded or made; the message says why and what is allowed."""


def names() -> list[str]:
    """All policies that a name alone selects: built in first, then entry points in alphabetical order."""
    return [*BUILT_IN, *sorted(e.name for e in entry_points(group=GROUP) if e.name not in BUILT_IN)]


def is_file(name: str) -> bool:
    """Whether the name is a path to a Python file (``file.py`` or ``file.py:ClassName``)."""
    return ".py:" in name or name.endswith(".py")


def find(name: str) -> type[Policy]:
    """The class that ``name`` stands for.

    Raises ``PolicyError`` for an unknown name (with the nearest ones), a missing file or class, a file that
    fails to load, and a class that is not a ``Policy``.
    """
    if is_file(name):
        return _from_file(name)
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(importlib.import_module(f".{module}", __package__), attribute)
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return _checked(entry.load(), name)
    known = names()
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    raise PolicyError(
        f"unknown policy {name!r}{hint} (known: {', '.join(known)}; or path/to/file.py:ClassName)"
    )


def make(name: str, arguments: Mapping[str, Any] | None = None) -> Policy:
    """An instance of the policy. Raises ``PolicyError`` where an argument is unknown or refused."""
    cls = find(name)
    arguments = dict(arguments or {})
    allowed = parameters(cls)
    for key in arguments:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            listed = ", ".join(allowed) or "none"
            raise PolicyError(f"policy {name!r} has no parameter {key!r}{hint} (allowed: {listed})")
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise PolicyError(f"policy {name!r}: {error}") from error


def parameters(cls: type[Policy]) -> dict[str, Any]:
    """The policy's parameters with their defaults (``inspect.Parameter.empty`` where required)."""
    if cls.__init__ is object.__init__:
        return {}
    signature = inspect.signature(cls)
    return {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def _from_file(name: str) -> type[Policy]:
    path_text, _, attribute = name.partition(".py:")
    path = Path(path_text + ".py") if attribute else Path(name)
    if not path.is_file():
        raise PolicyError(f"policy {name!r}: there is no file {str(path)!r}")
    tag = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    module_name = f"edgesched_policy_{tag}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise PolicyError(f"policy {name!r}: {str(path)!r} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        writes = sys.dont_write_bytecode
        sys.dont_write_bytecode = True  # reading a policy leaves nothing beside it
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[module_name]
            raise PolicyError(
                f"policy file {str(path)!r} fails to load: {type(error).__name__}: {error}"
            ) from error
        finally:
            sys.dont_write_bytecode = writes
    classes = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Policy) and value.__module__ == module_name
    }
    if not attribute:
        if len(classes) != 1:
            found = ", ".join(classes) or "none"
            raise PolicyError(
                f"policy file {str(path)!r}: name the class, as in {path}:ClassName (found: {found})"
            )
        return next(iter(classes.values()))
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, classes, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise PolicyError(f"policy file {str(path)!r} has no class {attribute!r}{hint}")
    return _checked(getattr(module, attribute), name)


def _checked(found: Any, name: str) -> type[Policy]:
    if not (inspect.isclass(found) and issubclass(found, Policy)):
        raise PolicyError(f"policy {name!r} is not a subclass of edgesched.policies.contract.Policy")
    return found
