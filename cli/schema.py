"""``edgesched schema``: the JSON Schema of scenarios, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..traces.atomic import write_whole
from .files import check_target


def schema(
    out: Annotated[Path | None, typer.Option(help="File to write; without it the schema is printed.")] = None,
) -> None:
    """Print the JSON Schema of scenario files, for editors that complete and check YAML."""
    import json

    from ..runs.scenario import json_schema

    check_target("--out", out)
    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        print(text, end="")
    else:
        write_whole(out, lambda draft: draft.write_text(text, encoding="utf-8"))
