"""Reads template.yaml, so that what the embedded AWS holds cannot drift from what is deployed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its stubs are one more dependency for one call

TEMPLATE = Path(__file__).parent.parent / "template.yaml"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # untyped
    """YAML with CloudFormation's tags, each kept as its argument: nothing here needs the values."""


def _argument(loader: _Loader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


_Loader.add_multi_constructor("!", _argument)


@cache
def resources() -> dict[str, Any]:
    """The template's resources by logical id."""
    loaded: dict[str, Any] = yaml.load(TEMPLATE.read_text(encoding="utf-8"), Loader=_Loader)
    found: dict[str, Any] = loaded["Resources"]
    return found


def properties(logical_id: str, kind: str) -> dict[str, Any]:
    """The properties of the one resource of that id and type."""
    resource = resources()[logical_id]
    if resource["Type"] != kind:
        raise ValueError(f"{logical_id} is a {resource['Type']} in the template, not a {kind}")
    found: dict[str, Any] = resource.get("Properties", {})
    return found


def function_variables() -> dict[str, str]:
    """The names of the function's environment variables in the cloud, each with an empty value."""
    found = properties("Function", "AWS::Serverless::Function")
    return dict.fromkeys(found["Environment"]["Variables"], "")
