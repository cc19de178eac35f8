"""Which pipelines a change stream can be resumed with; no I/O.

MongoDB allows few stages in a change stream, and each event must keep its own `_id`: it is the
resume token, so a pipeline that loses it loses the position (server error 280).

`$redact` loses it too: where it says `$$DESCEND` of the event, it is asked again of each document
inside, of which `_id` is one, and a `$$PRUNE` there takes `_id` away. That is seen here where the
answer is plain: a `$cond` that compares a field, which the document in `_id` does not have. What
this cannot see the server tells at the first such event (`mongodb/error_codes`).
Source: manual, "Modify Change Stream Output" and "$redact".
"""

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import bson
from bson import json_util
from bson.errors import BSONError

from tidemark.rules import REFUSED, Place, kind, listed

_ALLOWED = (
    "$addFields",
    "$match",
    "$project",
    "$redact",
    "$replaceRoot",
    "$replaceWith",
    "$set",
    "$unset",
)
_SPLIT = "$changeStreamSplitLargeEvent"
_MAX_LEVELS = 90  # MongoDB's own limit is 100, of which the command around takes some
_JSON = json_util.JSONOptions(tz_aware=True)
# json_util raises these for malformed Extended JSON; their texts repeat the value: not shown (G8).
_UNDECODABLE = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, BSONError)
_KEEP_ID = (
    "keep it, it is the resume token: use $addFields, $project without naming _id, or, in $redact, "
    "$$KEEP instead of $$DESCEND"
)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A list of stages, or a string of Extended JSON that holds one; becomes a tuple of dicts."""

    right: str = "a list of stages, or a string of Extended JSON that holds one"

    def __call__(self, value: object, place: Place) -> object:
        """Accept stages that leave `_id` alone, as dicts of BSON types."""
        stages = _from_json(value, place) if isinstance(value, str) else value
        if stages is REFUSED:
            return REFUSED
        if not isinstance(stages, list):
            return place.refuse(f"is {kind(stages)}", f"write {self.right}")
        accepted = [_stage(stage, place.item(index)) for index, stage in enumerate(stages)]
        return REFUSED if REFUSED in accepted else tuple(accepted)


def _from_json(text: str, place: Place) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno} of the string"
        return place.refuse(f"is not JSON ({where}: {error.msg})", "write Extended JSON")
    except RecursionError:
        return place.refuse("is nested too deeply", f"write at most {_MAX_LEVELS} levels")


def _decoded(value: object, place: Place, levels: int = _MAX_LEVELS) -> Any:
    """Turn Extended JSON into BSON types, each mistake noted where it stands."""
    if isinstance(value, list | dict) and levels == 0:
        return place.refuse("is nested too deeply", f"write at most {_MAX_LEVELS} levels")
    if isinstance(value, list):
        return [_decoded(each, place.item(index), levels - 1) for index, each in enumerate(value)]
    if isinstance(value, dict):
        entries = {name: _decoded(value[name], place.key(name), levels - 1) for name in value}
        return _typed(entries, place)
    if isinstance(value, dt.date | dt.time) and not getattr(value, "tzinfo", None):
        return place.refuse(f"is {kind(value)} without an offset", "write 2026-01-31T06:00:00Z")
    return value


def _typed(document: dict[str, Any], place: Place) -> object:
    if "$regex" in document and document.keys() - {"$regex", "$options"}:
        return document  # a query operator among others, which json_util would drop
    if REFUSED in document.values():
        return document
    try:
        return json_util.object_hook(document, _JSON)
    except _UNDECODABLE:
        return place.refuse("is not Extended JSON", 'write it as in {"$oid": "<24 hex digits>"}')


def _stage(written: object, place: Place) -> object:
    """Accept one stage with its BSON types, or note every mistake in it."""
    noted = len(place.problems)
    stage = _decoded(written, place)
    if len(place.problems) == noted:
        _judge_stage(stage, place)
    return stage if len(place.problems) == noted else REFUSED


def _judge_stage(stage: object, place: Place) -> None:
    if not isinstance(stage, dict) or len(stage) != 1:
        found = f"a table of {len(stage)} keys" if isinstance(stage, dict) else kind(stage)
        place.refuse(f"is {found}", 'write a stage: a table of one key, such as "$match"')
        return
    [(name, body)] = stage.items()
    if name == _SPLIT:
        place.refuse(f"is {_SPLIT}, which Tidemark adds", "set split_large_events = true")
    elif name not in _ALLOWED:
        place.refuse("is no stage that a change stream allows", f"write {listed(_ALLOWED)}")
    elif (loses := _LOSES_ID.get(name)) and loses(body):
        place.refuse(f"is a {name} that loses or replaces the event's _id", _KEEP_ID)
    elif not _is_encodable(stage):
        place.refuse("holds a value that BSON cannot", "write numbers below 2**63, no NUL in names")


def _is_encodable(stage: Mapping[str, Any]) -> bool:
    try:
        bson.encode(stage)
    except _UNDECODABLE:
        return False
    return True


def _is_id(path: object) -> bool:
    return isinstance(path, str) and (path == "_id" or path.startswith("_id."))


_OWN_ID = ("$_id", "$$ROOT._id", "$$CURRENT._id")


def _project_loses(body: object) -> bool:
    """Allow inclusion alone: only a true number or boolean leaves `_id` as it is."""
    return any(
        path != "_id" or not (_is_inclusion(value) or value in _OWN_ID)
        for path, value in _items(body)
        if _is_id(path)
    )


def _is_inclusion(value: object) -> bool:
    return isinstance(value, int | float) and bool(value)


def _set_loses(body: object) -> bool:
    return any(_is_id(path) and value not in _OWN_ID for path, value in _items(body))


def _unset_loses(body: object) -> bool:
    return any(map(_is_id, body if isinstance(body, list) else [body]))


def _replace_root_loses(body: object) -> bool:
    return _replacement_loses(dict(_items(body)).get("newRoot"))


def _replacement_loses(body: object) -> bool:
    return _id_of(body) is not _Id.KEPT


def _redact_loses(body: object) -> bool:
    """Whether the event is descended into and its `_id`, which has `_data` alone, is pruned."""
    return _mentions(body, "$$DESCEND") and _choice_in_id(body) == "$$PRUNE"


def _mentions(expression: object, word: str) -> bool:
    if isinstance(expression, dict | list):
        parts = expression.values() if isinstance(expression, dict) else expression
        return any(_mentions(part, word) for part in parts)
    return expression == word


def _choice_in_id(expression: object) -> object:
    """What a `$cond` chooses of the document in `_id`; None where that cannot be seen."""
    if not (isinstance(expression, dict) and "$cond" in expression):
        return expression
    branches = expression["$cond"]
    if isinstance(branches, dict):
        branches = [branches.get(name) for name in ("if", "then", "else")]
    if not isinstance(branches, list) or len(branches) != 3:
        return None
    condition, then, otherwise = branches
    holds = _holds_in_id(condition)
    return None if holds is None else _choice_in_id(then if holds else otherwise)


def _holds_in_id(condition: object) -> bool | None:
    """A comparison of a field that `_id` lacks with a constant; None for any other condition."""
    [(operator, operands)] = list(_items(condition))[:1] or [("", None)]
    if operator not in _OF_A_MISSING_FIELD or not isinstance(operands, list) or len(operands) != 2:
        return None
    fields = [each for each in operands if _is_missing_in_id(each)]
    others = [each for each in operands if not _is_missing_in_id(each)]
    if len(fields) != 1 or any(isinstance(each, str) and each[:1] == "$" for each in others):
        return None
    is_constant = others[0] is not None and not isinstance(others[0], dict)
    return _OF_A_MISSING_FIELD[operator] if is_constant else None


def _is_missing_in_id(operand: object) -> bool:
    is_path = isinstance(operand, str) and operand[:1] == "$" and operand[:2] != "$$"
    return is_path and operand not in ("$_data", "$_typeBits")


_OF_A_MISSING_FIELD = {"$eq": False, "$ne": True, "$in": False}


class _Id(Enum):
    """What a replacement document has as its `_id`, as far as can be seen without data."""

    KEPT = auto()  # the event's own, or nothing that this code can tell from it
    LOST = auto()
    ABSENT = auto()


def _id_of(expression: object) -> _Id:
    if isinstance(expression, str):
        return _id_of_path(expression)
    if not isinstance(expression, dict):
        return _Id.ABSENT
    if "$mergeObjects" in expression:
        return _id_of_merge(expression["$mergeObjects"])
    if any(key.startswith("$") for key in expression):
        return _Id.KEPT
    if "_id" not in expression:
        return _Id.ABSENT
    return _Id.KEPT if expression["_id"] in _OWN_ID else _Id.LOST


def _id_of_path(path: str) -> _Id:
    """The documents inside an event have an `_id` of their own; its other fields have none."""
    path = path.replace("$$ROOT.", "$").replace("$$CURRENT.", "$")
    if path.startswith("$$"):
        return _Id.KEPT
    documents = ("$fullDocument", "$fullDocumentBeforeChange", "$documentKey")
    return _Id.LOST if path in documents else _Id.ABSENT


def _id_of_merge(operands: object) -> _Id:
    """The last operand that has an `_id` decides."""
    found = map(_id_of, reversed(operands if isinstance(operands, list) else [operands]))
    return next((each for each in found if each is not _Id.ABSENT), _Id.ABSENT)


def _items(body: object) -> Iterable[tuple[str, Any]]:
    return body.items() if isinstance(body, dict) else ()


_LOSES_ID: Mapping[str, Callable[[object], bool]] = {
    "$project": _project_loses,
    "$redact": _redact_loses,
    "$set": _set_loses,
    "$addFields": _set_loses,
    "$unset": _unset_loses,
    "$replaceRoot": _replace_root_loses,
    "$replaceWith": _replacement_loses,
}
