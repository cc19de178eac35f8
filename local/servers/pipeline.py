"""As much of the aggregation language as change streams are tested with.

Stages: `$match`, `$project`, `$unset`, `$set`, `$addFields`, `$replaceRoot`, `$replaceWith` and
`$changeStreamSplitLargeEvent` (nothing is ever split). Expressions: "$path", `$$ROOT`, `$literal`,
`$toDate`, `$mergeObjects`, documents and arrays of them. What is not known here is refused as
MongoDB refuses it, and never taken for something else.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from bson.timestamp import Timestamp

from servers.errors import (
    BAD_VALUE,
    INVALID_PIPELINE_OPERATOR,
    UNKNOWN_STAGE,
    CommandError,
)
from servers.oplog import wall_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Document = dict[str, Any]
Stage = Document
MISSING = object()


def validate(pipeline: Sequence[Stage]) -> None:
    """Refuse a stage or an operator that is not known, before any event is there."""
    for stage in pipeline:
        name, body = _only(stage)
        if name not in STAGES:
            raise CommandError(UNKNOWN_STAGE, f"Unrecognized pipeline stage name: '{name}'")
        if name == "$match":
            _validate_query(body)


def apply(pipeline: Sequence[Stage], event: Document) -> Document | None:
    """What the pipeline makes of an event; None where it lets it not through."""
    shown: Document | None = event
    for stage in pipeline:
        if shown is not None:
            name, body = _only(stage)
            shown = STAGES[name](shown, body)
    return shown


def matches(document: Document, query: Document) -> bool:
    """Whether a document meets a query."""
    return all(_meets(document, name, condition) for name, condition in query.items())


# ------------------------------------------------------------------------------------- queries


def _meets(document: Document, name: str, condition: Any) -> bool:
    if name in LOGICAL:
        return LOGICAL[name](matches(document, query) for query in condition)
    value = get(document, name)
    if not _is_operators(condition):
        return _equals(value, condition)
    return all(COMPARISONS[sign](value, wanted) for sign, wanted in condition.items())


def _is_operators(condition: Any) -> bool:
    return isinstance(condition, dict) and any(str(name).startswith("$") for name in condition)


def _validate_query(query: Document) -> None:
    for name, condition in query.items():
        if name in LOGICAL:
            for each in condition:
                _validate_query(each)
        elif name.startswith("$"):
            raise CommandError(BAD_VALUE, f"unknown top level operator: {name}")
        elif _is_operators(condition) and (unknown := condition.keys() - COMPARISONS.keys()):
            raise CommandError(BAD_VALUE, f"unknown operator: {min(unknown)}")


def _equals(value: Any, wanted: Any) -> bool:
    if value is MISSING:
        return wanted is None
    return bool(value == wanted) or (isinstance(value, list) and wanted in value)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def holds(value: Any, wanted: Any) -> bool:
        try:
            return value is not MISSING and compare(value, wanted)
        except TypeError:  # of different BSON types: neither is greater
            return False

    return holds


LOGICAL: dict[str, Callable[[Iterable[bool]], bool]] = {
    "$and": all,
    "$or": any,
    "$nor": lambda met: not any(met),
}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equals,
    "$ne": lambda value, wanted: not _equals(value, wanted),
    "$in": lambda value, wanted: any(_equals(value, each) for each in wanted),
    "$nin": lambda value, wanted: not any(_equals(value, each) for each in wanted),
    "$gt": _ordered(operator.gt),
    "$gte": _ordered(operator.ge),
    "$lt": _ordered(operator.lt),
    "$lte": _ordered(operator.le),
    "$exists": lambda value, wanted: (value is not MISSING) == bool(wanted),
}


# --------------------------------------------------------------------------------------- paths


def get(document: Any, path: str) -> Any:
    """The value at a dotted path, or MISSING."""
    for name in path.split("."):
        if not isinstance(document, dict) or name not in document:
            return MISSING
        document = document[name]
    return document


def _with(document: Document, path: str, value: Any) -> Document:
    """A copy of `document` that has `value` at a dotted path; MISSING takes it away."""
    name, _, rest = path.partition(".")
    if rest:
        inner = document.get(name)
        if value is MISSING and not isinstance(inner, dict):
            return document
        value = _with(inner if isinstance(inner, dict) else {}, rest, value)
    if value is MISSING:
        return {key: kept for key, kept in document.items() if key != name}
    return {**document, name: value}


# --------------------------------------------------------------------------------- expressions


def evaluate(document: Document, expression: Any) -> Any:
    """The value of an expression, or MISSING."""
    if isinstance(expression, str) and expression.startswith("$"):
        path = expression.removeprefix("$$ROOT").lstrip("$.")
        return get(document, path) if path else document
    if isinstance(expression, list):
        values = (evaluate(document, each) for each in expression)
        return [None if value is MISSING else value for value in values]
    if not isinstance(expression, dict):
        return expression
    if expression and next(iter(expression)).startswith("$"):
        return _operate(document, *_only(expression))
    found = {name: evaluate(document, each) for name, each in expression.items()}
    return {name: value for name, value in found.items() if value is not MISSING}


def _operate(document: Document, name: str, given: Any) -> Any:
    if name == "$literal":
        return given
    value = evaluate(document, given)
    if name == "$toDate":
        return wall_time(value) if isinstance(value, Timestamp) else value
    if name == "$mergeObjects":
        return {key: kept for each in value if each for key, kept in each.items()}
    raise CommandError(INVALID_PIPELINE_OPERATOR, f"Unrecognized expression '{name}'")


# -------------------------------------------------------------------------------------- stages


def _only(stage: Document) -> tuple[str, Any]:
    [(name, body)] = stage.items()
    return name, body


def _match(event: Document, query: Document) -> Document | None:
    return event if matches(event, query) else None


def _project(event: Document, fields: Document) -> Document:
    if all(value in (0, False) for value in fields.values()):
        return _unset(event, list(fields))
    shown: Document = {}
    for path, wanted in ({"_id": 1} | fields).items():
        if wanted in (1, True):
            shown = _with(shown, path, get(event, path))
        elif wanted not in (0, False):
            shown = _with(shown, path, evaluate(event, wanted))
    return shown


def _unset(event: Document, paths: str | list[str]) -> Document:
    for path in [paths] if isinstance(paths, str) else paths:
        event = _with(event, path, MISSING)
    return event


def _set(event: Document, fields: Document) -> Document:
    values = {path: evaluate(event, given) for path, given in fields.items()}
    for path, value in values.items():
        event = event if value is MISSING else _with(event, path, value)
    return event


def _replace(event: Document, expression: Any) -> Document:
    replaced = evaluate(event, expression)
    if not isinstance(replaced, dict):
        raise CommandError(40228, "'newRoot' expression must evaluate to an object")
    return replaced


STAGES: dict[str, Callable[[Document, Any], Document | None]] = {
    "$match": _match,
    "$project": _project,
    "$unset": _unset,
    "$set": _set,
    "$addFields": _set,
    "$replaceWith": _replace,
    "$replaceRoot": lambda event, body: _replace(event, body["newRoot"]),
    "$changeStreamSplitLargeEvent": lambda event, _: event,
}
