"""The reference of the command line and of the spec file, from the code as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Set
from typing import Any

import typer
from pydantic import BaseModel
from typer.cli import get_docs_for_click

from orchestrator.cli.main import app
from orchestrator.search.pruners import PRUNERS
from orchestrator.search.samplers import SAMPLERS
from orchestrator.search.strategy import Strategy
from orchestrator.spec.domains import ChoiceDomain, FixedDomain, FloatDomain, IntDomain
from orchestrator.spec.model import StudySpec

_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
}
_BOUNDS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
}
_STRATEGIES: dict[str, Mapping[str, Strategy]] = {"sampler": SAMPLERS, "pruner": PRUNERS}


def command_line() -> str:
    """The page of every verb and option, as ``--help`` has them."""
    command = typer.main.get_command(app)
    with typer.Context(command, info_name="orch") as context:
        page = get_docs_for_click(obj=command, ctx=context, name="orch", title="The command line")
    # The verbs follow with their whole text; the list cuts it off.
    page = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n", "", page)
    page = re.sub(r"^((?:Example|Start with): )(.+)$", r"\1`\2`", page, flags=re.M)
    return f"{page.rstrip()}\n\n{_EXIT_CODES}"


_EXIT_CODES = """## Exit codes

| code | |
|---|---|
| 0 | done |
| 1 | the work failed, or no such study |
| 2 | wrong use: an unknown name or option, an impossible value |
| 3 | no storage |
| 130 | interrupted |

An error is one line on standard error: what is wrong and the mend. `orch --debug …` shows the
traceback. Results go to standard output, progress to standard error.
"""

_SPEC_HEAD = """# The spec file

A TOML file for `orch run FILE.toml` and `orch create NAME --spec FILE.toml`. Only
`study.objective` must be there. `--set SECTION.KEY=VALUE` sets any key on the command line,
`--param NAME=DOMAIN` one entry of `[space]`. A time is written `90s`, `30m`, `2h` or `1d`.
"""


def spec_file() -> str:
    """The page of every section and key of a spec."""
    parts = [_SPEC_HEAD]
    for name, field in StudySpec.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            parts.append(_section(name, section))
        else:
            parts.append(f"## [{name}]\n\n{field.description}\n")
    return "\n".join(parts) + "\n" + _domains()


def _section(name: str, section: type[BaseModel]) -> str:
    head, _, rest = (section.__doc__ or "").partition("\n")
    about = head.partition("``: ")[2]
    about = " ".join(f"{about[:1].upper()}{about[1:]}{rest}".split()).replace("``", "`")
    rows = [
        _key(section, key, schema)
        for key, schema in section.model_json_schema()["properties"].items()
    ]
    table = "| key | takes | default | |\n|---|---|---|---|\n" + "\n".join(rows)
    return f"## [{name}]\n\n{about}\n\n{table}\n{_strategies(name)}"


def _key(section: type[BaseModel], key: str, schema: dict[str, Any]) -> str:
    field = section.model_fields[key]
    if field.is_required():
        default = "must be given" if key == "objective" else "the objective's"
    else:
        # As a file would have it: a time in its own units.
        plain = section.model_construct().model_dump(mode="json", include={key})[key]
        default = "" if plain in (None, []) else f"`{json.dumps(plain)}`"
    return f"| `{key}` | {_kind(schema)} | {default} | {field.description} |"


def _kind(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "anyOf" in schema:
        kinds = [_kind(each) for each in schema["anyOf"] if each.get("type") != "null"]
        return ", or ".join(kinds)
    if schema.get("format") == "duration":
        return "time"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(each)}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    bounds = [words.format(schema[key]) for key, words in _BOUNDS.items() if key in schema]
    return " ".join([_KINDS[schema["type"]], *bounds])


def _strategies(section: str) -> str:
    """Which class a name is, and which further keys that takes."""
    strategies = _STRATEGIES.get(section)
    if strategies is None:
        return ""
    rows = [
        f"| `{name}` | {each.class_name} | {_listed(each.options())} |"
        for name, each in strategies.items()
    ]
    return "\n| name | class | further keys |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _listed(names: Set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _domains() -> str:
    kinds = {
        "a whole number": IntDomain,
        "a number": FloatDomain,
        "a choice": ChoiceDomain,
        "fixed": FixedDomain,
    }
    rows = [
        f"| {kind} | {str(domain.__doc__).rstrip('.').replace('``', '`')} |"
        for kind, domain in kinds.items()
    ]
    conditional = (
        "| there only beside some values of others | add `when` to a table: "
        '`{ float = [0.0, 0.9], when = { optimizer = ["sgd", "rmsprop"] } }` |'
    )
    rows.append(conditional)
    return "| a parameter is | write |\n|---|---|\n" + "\n".join(rows) + "\n"
