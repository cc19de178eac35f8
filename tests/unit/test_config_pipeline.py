"""A pipeline is accepted only if its change stream can be resumed."""

import datetime as dt
import json
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId, Regex, Timestamp

from tidemark.config import StreamSettings, parse
from tidemark.errors import ConfigError

ENVIRON = {
    "TIDEMARK_TABLE": "tidemark",
    "MONGODB_SECRET_ID": "prod/mongodb",
    "TIDEMARK_DEAD_LETTER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/dead",
}
ID = "65a000000000000000000001"


def stream(pipeline: str) -> StreamSettings:
    [only] = parse(f'[[stream]]\nname = "orders"\npipeline = {pipeline}', ENVIRON).streams
    return only


def problems(pipeline: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        stream(pipeline)
    return caught.value.problems


def from_json(*stages: Any) -> str:
    return f"'''{json.dumps(stages)}'''"


def matched(value: Any) -> Any:
    [stage] = stream(from_json({"$match": {"f": value}})).pipeline
    return stage["$match"]["f"]


class TestReading:
    def test_tables_and_extended_json_say_the_same(self) -> None:
        written = f'[{{ "$match" = {{ "documentKey._id" = {{ "$oid" = "{ID}" }} }} }}]'
        in_json = from_json({"$match": {"documentKey._id": {"$oid": ID}}})
        assert stream(written).pipeline == ({"$match": {"documentKey._id": ObjectId(ID)}},)
        assert stream(written).fingerprint == stream(in_json).fingerprint

    @pytest.mark.parametrize(
        ("written", "value"),
        [
            ({"$numberLong": "7"}, Int64(7)),
            ({"$numberDecimal": "1.50"}, Decimal128("1.50")),
            ({"$timestamp": {"t": 7, "i": 1}}, Timestamp(7, 1)),
            ({"$date": "2026-01-31T06:00:00Z"}, dt.datetime(2026, 1, 31, 6, tzinfo=dt.UTC)),
            ({"$regularExpression": {"pattern": "^a", "options": "i"}}, Regex("^a", "i")),
            ({"$in": [{"$oid": ID}]}, {"$in": [ObjectId(ID)]}),
        ],
    )
    def test_extended_json_arrives_as_its_type(self, written: Any, value: Any) -> None:
        assert matched(written) == value
        assert type(matched(written)) is type(value)

    def test_a_regex_operator_keeps_its_neighbours(self) -> None:
        assert matched({"$regex": "^a", "$nin": ["ab"]}) == {"$regex": "^a", "$nin": ["ab"]}

    def test_a_toml_date_time_is_a_bson_date(self) -> None:
        [stage] = stream(
            '[{ "$match" = { wallTime = { "$gt" = 2026-01-31T06:00:00Z } } }]'
        ).pipeline
        assert stage["$match"]["wallTime"]["$gt"].utcoffset() == dt.timedelta(0)

    def test_key_order_counts_in_the_fingerprint(self) -> None:
        """G10: `{a, b}` and `{b, a}` are different documents to MongoDB."""
        one, other = {"a": 1, "b": 2}, {"b": 2, "a": 1}
        first, second = (from_json({"$match": {"f": each}}) for each in (one, other))
        assert stream(first).fingerprint != stream(second).fingerprint


class TestRefused:
    @pytest.mark.parametrize("pipeline", ["7", "{ }", "'{}'", "true"])
    def test_a_pipeline_is_a_list(self, pipeline: str) -> None:
        assert "stream[0].pipeline: is a" in problems(pipeline)[0]

    def test_broken_json_keeps_its_line_and_column(self) -> None:
        [found] = problems("'''[\n{\"$match\": }]'''")
        assert "stream[0].pipeline: is not JSON (line 2, column 12 of the string" in found

    @pytest.mark.parametrize("levels", [91, 900, 200_000])
    def test_a_pipeline_nested_beyond_mongodbs_limit_is_refused(self, levels: int) -> None:
        nested = f"{'[' * levels}{']' * levels}"
        [found] = problems(f"""'[{{"$match": {{"f": {nested}}}}}]'""")
        assert "is nested too deeply; write at most 90 levels" in found

    def test_one_mistake_inside_extended_json_is_one_problem(self) -> None:
        [found] = problems('[{ "$match" = { f = { "$date" = 2026-01-31 } } }]')
        assert "pipeline[0].$match.f.$date: is a date" in found

    def test_every_bad_stage_is_named(self) -> None:
        found = problems(
            from_json({"$out": "x"}, {"$match": {}}, {}, {"$match": {}, "$set": {}}, 7)
        )
        assert [each.partition(";")[0] for each in found] == [
            "streams.toml: stream[0].pipeline[0]: is no stage that a change stream allows",
            "streams.toml: stream[0].pipeline[2]: is a table of 0 keys",
            "streams.toml: stream[0].pipeline[3]: is a table of 2 keys",
            "streams.toml: stream[0].pipeline[4]: is a whole number",
        ]

    def test_splitting_is_an_option_instead_of_a_stage(self) -> None:
        [found] = problems(from_json({"$changeStreamSplitLargeEvent": {}}))
        assert found.endswith("set split_large_events = true")

    @pytest.mark.parametrize(
        "bad",
        [{"$oid": "hunter2"}, {"$numberDecimal": "hunter2"}, {"$date": []}, {"$binary": "hunter2"}],
    )
    def test_malformed_extended_json_is_named_and_not_repeated(self, bad: Any) -> None:
        """G8: a pipeline's values stay out of messages."""
        [found] = problems(from_json({"$match": {"f": [0, bad]}}))
        assert "stream[0].pipeline[0].$match.f[1]: is not Extended JSON" in found
        assert "hunter2" not in found

    @pytest.mark.parametrize("value", ["2026-01-31", "06:00:00", "2026-01-31T06:00:00"])
    def test_a_toml_date_that_is_no_instant_is_refused(self, value: str) -> None:
        [found] = problems(f'[{{ "$match" = {{ wallTime = {value} }} }}]')
        assert found.startswith("streams.toml: stream[0].pipeline[0].$match.wallTime: is a ")

    @pytest.mark.parametrize("body", [{"f": 2**63}, {"f\0": 1}])
    def test_a_value_that_bson_cannot_hold_is_refused(self, body: Any) -> None:
        assert (
            "pipeline[0]: holds a value that BSON cannot"
            in problems(from_json({"$match": body}))[0]
        )


DEEP = {"$cond": [True, "$$DESCEND", "$$KEEP"]}


class TestResumeToken:
    """The event's `_id` is its resume token and the source of its change_id (G3)."""

    @pytest.mark.parametrize(
        "stage",
        [
            {"$project": {"_id": 0}},
            {"$project": {"_id": False, "ns": True}},
            {"$project": {"_id": "$documentKey._id"}},
            {"$project": {"_id": {"_data": 1}}},
            {"$project": {"_id._data": 0}},
            {"$set": {"_id": "$documentKey._id"}},
            {"$addFields": {"_id": 1}},
            {"$addFields": {"_id.x": 1}},
            {"$unset": "_id"},
            {"$unset": ["ns", "_id"]},
            {"$unset": "_id._data"},
            {"$replaceRoot": {"newRoot": "$fullDocument"}},
            {"$replaceRoot": {"newRoot": {"ns": "$ns"}}},
            {"$replaceRoot": {}},
            {"$replaceWith": "$fullDocument"},
            {"$replaceWith": "$$ROOT.fullDocument"},
            {"$replaceWith": {"_id": "$fullDocument._id"}},
            {"$replaceWith": {"$mergeObjects": ["$$ROOT", "$fullDocument"]}},
            {"$replaceWith": {"$mergeObjects": ["$ns", {"a": 1}]}},
            {"$redact": {"$cond": [{"$eq": ["$operationType", "x"]}, "$$DESCEND", "$$PRUNE"]}},
            {"$redact": {"$cond": {"if": {"$ne": ["x", "$a"]}, "then": "$$PRUNE", "else": DEEP}}},
            {"$redact": {"$cond": [{"$in": ["$level", [1, 2]]}, "$$DESCEND", "$$PRUNE"]}},
        ],
        ids=json.dumps,
    )
    def test_a_stage_that_loses_it_is_refused(self, stage: Any) -> None:
        [found] = problems(from_json({"$match": {}}, stage))
        assert "stream[0].pipeline[1]: is a $" in found
        assert "use $addFields, $project without naming _id, or, in $redact, $$KEEP" in found

    @pytest.mark.parametrize(
        "stage",
        [
            {"$project": {"ns": 1}},
            {"$project": {"_id": 1, "fullDocument._id": 0}},
            {"$project": {"_id": True}},
            {"$project": {"_id": "$_id"}},
            {"$set": {"_id": "$_id", "_idle": 1}},
            {"$addFields": {"fullDocument._id": 1}},
            {"$unset": ["fullDocument._id", "_idle"]},
            {"$redact": "$$KEEP"},
            {"$redact": "$$DESCEND"},
            {"$redact": {"$cond": [{"$eq": ["$operationType", "x"]}, "$$KEEP", "$$PRUNE"]}},
            {"$redact": {"$cond": [{"$eq": ["$level", 5]}, "$$PRUNE", "$$DESCEND"]}},
            {"$redact": {"$cond": [{"$eq": ["$_data", "x"]}, "$$DESCEND", "$$PRUNE"]}},
            {"$redact": {"$cond": [{"$gt": ["$level", 5]}, "$$DESCEND", "$$PRUNE"]}},
            {"$redact": {"$cond": [{"$eq": ["$a", "$b"]}, "$$DESCEND", "$$PRUNE"]}},
            {"$redact": {"$cond": [{"$eq": ["$a", None]}, "$$PRUNE", "$$DESCEND"]}},
            {"$redact": {"$cond": ["$$DESCEND", "$$PRUNE"]}},
            {"$replaceRoot": {"newRoot": "$$ROOT"}},
            {"$replaceWith": {"_id": "$_id", "ns": "$ns"}},
            {"$replaceWith": {"$mergeObjects": ["$fullDocument", "$$ROOT"]}},
            {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"ns": 1}]}},
            {"$replaceWith": {"$cond": [True, "$$ROOT", "$$ROOT"]}},
        ],
        ids=json.dumps,
    )
    def test_a_stage_that_keeps_it_is_accepted(self, stage: Any) -> None:
        assert stream(from_json(stage)).pipeline == (stage,)
