"""The template against what it stands for: settings, metrics, events, environments of samconfig."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from typing import TYPE_CHECKING, Any, get_args

import pytest
from aws_lambda_powertools import Logger

import stack
from tidemark import telemetry
from tidemark.model import StreamSummary
from tidemark.rules import REFUSED, Place, Seconds, Whole
from tidemark.settings import Settings, SinkType, Variable
from tidemark.targets import TARGETS
from tidemark.telemetry import METRICS, StreamTelemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TEMPLATE = stack.template()
PARAMETERS = TEMPLATE["Parameters"]
RESOURCES = TEMPLATE["Resources"]
ENVIRONMENT = RESOURCES["Function"]["Properties"]["Environment"]["Variables"]
SAMCONFIG = tomllib.loads((stack.ROOT / "samconfig.toml").read_text("utf-8"))
STAGES = sorted(SAMCONFIG.keys() - {"version"})
ALARM_NAMES = [name for name, each in RESOURCES.items() if each["Type"] == "AWS::CloudWatch::Alarm"]
METRIC_ALARMS = [RESOURCES[name] for name in ALARM_NAMES]

QUEUE = "arn:aws:sqs:us-east-1:123456789012:orders"
KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"

# Read by somebody else than Settings.
OTHERS = {
    "AWS_ENDPOINT_URL",  # every AWS SDK
    "POWERTOOLS_LOG_LEVEL",
    "POWERTOOLS_METRICS_NAMESPACE",
    "POWERTOOLS_SERVICE_NAME",
    "TIDEMARK_STREAMS",  # config, before there are settings
}


def variables() -> dict[str, Any]:
    """The rule of each environment variable that the settings name."""
    annotations = [get_args(each.type) for each in dataclasses.fields(Settings)]
    return {
        extra.name: rule
        for _, rule, *extras in (each for each in annotations if len(each) > 1)
        for extra in extras
        if isinstance(extra, Variable)
    }


# ------------------------------------------------------------------ parameters


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_says_what_it_is_and_what_it_may_be(name: str) -> None:
    parameter = PARAMETERS[name]
    assert parameter["Description"].rstrip().endswith(".")
    assert parameter.keys() & {"AllowedPattern", "AllowedValues", "MinValue"}
    assert ("AllowedPattern" in parameter) == ("ConstraintDescription" in parameter)


def test_every_parameter_is_asked_for_in_one_group() -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_default_is_allowed(name: str) -> None:
    assert allows(name, str(PARAMETERS[name]["Default"]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MongodbSecretId", "mongodb://user:password@host"),
        ("MongodbSecretId", "arn:aws:secretsmanager:us-east-1:123456789012:secret:without-its-end"),
        ("MongodbParameter", "no-slash"),
        ("MongodbParameter", "/two//slashes"),
        ("MongodbKmsKeyArn", "alias/mine"),
        ("MongodbTls", "no"),
        ("MongodbCaFile", "documentdb.pem"),
        ("StreamsFile", "streams.yaml"),
        ("PeriodMinutes", "0"),
        ("ScheduleState", "enabled"),
        ("Mode", "stay"),
        ("Destination", "lambda"),
        ("DestinationTarget", "https://sqs.us-east-1.amazonaws.com/123456789012/orders"),
        ("DestinationTarget", "arn:aws:lambda:us-east-1:123456789012:function:orders"),
        ("DestinationTarget", "arn:aws:events:us-east-1:123456789012:rule/orders"),
        ("DestinationTarget", "arn:aws:kinesis:us-east-1:123456789012:orders"),
        ("DestinationTarget", "arn:aws:sns:us-east-1:123456789012:orders:0c9a3b2e"),
        ("DestinationKmsKeyArn", "alias/mine"),
        ("Architecture", "x86"),
        ("MemoryMb", "128"),
        ("TimeoutS", "901"),
        ("ReservedConcurrency", "-1"),
        ("SubnetIds", "sg-0123abcd"),
        ("SecurityGroupIds", "subnet-0123abcd"),
        ("KmsKeyArn", "arn:aws:kms:us-east-1:123456789012:alias/mine"),
        ("LogRetentionDays", "10"),
        ("DeadLetterRetentionS", "1209601"),
        ("PayloadRetentionDays", "14"),
        ("LogLevel", "info"),
        ("Tracing", "active"),
        ("MetricsNamespace", ""),
        ("AlarmTopicArn", "me@example.com"),
        ("AlarmSilenceMinutes", "1"),
        ("HeadroomAlarmS", "-1"),
    ],
)
def test_a_value_out_of_range_stops_before_anything_is_deployed(name: str, value: str) -> None:
    assert not allows(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MongodbSecretId", "tidemark/dev/mongodb"),
        (
            "MongodbSecretId",
            "arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:a/b-AbC123",
        ),
        ("MongodbParameter", "/tidemark/dev/mongodb"),
        ("MongodbCaFile", "/opt/certificates/documentdb.pem"),
        ("SubnetIds", "subnet-0123abcd"),
        ("AlarmTopicArn", "arn:aws:sns:eu-west-1:123456789012:on-call"),
        ("DestinationTarget", "arn:aws:sqs:us-east-1:123456789012:orders.fifo"),
        ("DestinationTarget", "arn:aws:sns:us-east-1:123456789012:orders"),
        ("DestinationTarget", "arn:aws-cn:events:cn-north-1:123456789012:event-bus/shop/orders"),
        ("DestinationTarget", "arn:aws:kinesis:us-east-1:123456789012:stream/orders"),
    ],
)
def test_what_people_write_is_allowed(name: str, value: str) -> None:
    assert allows(name, value)


def allows(name: str, value: str) -> bool:
    """Whether CloudFormation would take `value` (of a list: one entry) for the parameter `name`."""
    parameter = PARAMETERS[name]
    if "AllowedValues" in parameter:
        return value in map(str, parameter["AllowedValues"])
    if "AllowedPattern" in parameter:
        return re.fullmatch(parameter["AllowedPattern"], value) is not None
    return bool(parameter["MinValue"] <= int(value) <= parameter["MaxValue"])


# ------------------------------------------------------------------ parameters and settings


def test_the_function_is_told_every_variable_that_somebody_reads_and_no_other() -> None:
    """`sam local` sets only what is declared."""
    assert set(ENVIRONMENT) == variables().keys() | OTHERS


# Each parameter of a number that may be left to streams.toml, with the setting's own rule.
TUNED = [
    pytest.param(ENVIRONMENT[variable]["Ref"], rule, id=variable)
    for variable, rule in variables().items()
    if isinstance(rule, Whole | Seconds)
]


@pytest.mark.parametrize(("name", "rule"), TUNED)
def test_a_parameter_allows_the_numbers_that_its_setting_allows(
    name: str, rule: Whole | Seconds
) -> None:
    for number in range(-1, 1_100):
        accepted = rule(number, Place("here")) is not REFUSED
        assert allows(name, str(number)) == accepted, number


RESOURCES_OF_ARNS = ["a-b_c", "a.fifo", "a.b", "event-bus/a.b/c", "stream/a.b", "stream/a/b", ""]


@pytest.mark.parametrize("resource", RESOURCES_OF_ARNS)
@pytest.mark.parametrize("service", ["sqs", "sns", "events", "kinesis"])
@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws1"])
def test_a_parameter_allows_the_targets_that_the_settings_allow_by_arn(
    partition: str, service: str, resource: str
) -> None:
    """Else a function would be deployed that refuses to start, or one be refused that runs."""
    target = f"arn:{partition}:{service}:us-east-1:123456789012:{resource}"
    fits = any(rule.fits(target) for rule in TARGETS.values())
    assert allows("DestinationTarget", target) == fits


def test_every_destination_is_a_type_of_the_settings_or_the_function() -> None:
    types = {each["Type"] for each in TEMPLATE["Mappings"]["Destinations"].values()}
    assert types == {"", *get_args(SinkType)}
    assert list(TEMPLATE["Mappings"]["Destinations"]) == PARAMETERS["Destination"]["AllowedValues"]


def test_empty_leaves_a_fine_tuning_to_streams_toml() -> None:
    names = [str(param.values[0]) for param in TUNED]
    assert {PARAMETERS[name]["Default"] for name in names} == {""}
    assert all(allows(name, "") for name in names)


# ------------------------------------------------------------------ rules across parameters


@pytest.mark.parametrize(
    ("given", "broken"),
    [
        ({}, "OneConnectionString"),
        ({"MongodbSecretId": "a", "MongodbParameter": "/a"}, "OneConnectionString"),
        ({"SubnetIds": "subnet-0123abcd"}, "SubnetsNeedSecurityGroups"),
        ({"SecurityGroupIds": "sg-0123abcd"}, "SecurityGroupsNeedSubnets"),
        ({"MongodbTls": "off", "MongodbCaFile": "/opt/ca.pem"}, "CaFileNeedsTls"),
        ({"Mode": "drain", "AcquireWaitS": "5"}, "OnlyLingerWaits"),
        ({"DestinationTarget": QUEUE}, "TargetNeedsDestination"),
        ({"Destination": "sqs-fifo", "DestinationTarget": QUEUE}, "TargetSaysWhetherItIsFifo"),
        ({"Destination": "sqs", "DestinationKmsKeyArn": KEY}, "DestinationKeyNeedsTarget"),
        (
            {
                "Destination": "eventbridge",
                "DestinationTarget": "arn:aws:events:us-east-1:123456789012:event-bus/orders",
                "DestinationKmsKeyArn": KEY,
            },
            "BusNeedsNoKey",
        ),
    ],
)
def test_contradictions_break_their_rule(given: dict[str, str], broken: str) -> None:
    assert broken in broken_rules(given)


@pytest.mark.parametrize(
    "given",
    [
        {"MongodbSecretId": "a"},
        {"MongodbParameter": "/a"},
        {"MongodbSecretId": "a", "SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"},
        {"MongodbSecretId": "a", "Mode": "linger", "AcquireWaitS": "5"},
        {"MongodbSecretId": "a", "MongodbCaFile": "/opt/ca.pem"},
        {"MongodbSecretId": "a", "Destination": "sqs-fifo"},
        {
            "MongodbSecretId": "a",
            "Destination": "sqs",
            "DestinationTarget": QUEUE,
            "DestinationKmsKeyArn": KEY,
        },
    ],
)
def test_what_fits_together_breaks_no_rule(given: dict[str, str]) -> None:
    assert broken_rules(given) == set()


def broken_rules(given: Mapping[str, str]) -> set[str]:
    """The rules that CloudFormation would refuse these parameters by."""
    values = {name: str(each["Default"]) for name, each in PARAMETERS.items()} | dict(given)
    return {
        name
        for name, rule in TEMPLATE["Rules"].items()
        if evaluated(rule.get("RuleCondition", True), values)
        and not all(evaluated(each["Assert"], values) for each in rule["Assertions"])
    }


def evaluated(expression: Any, values: Mapping[str, str]) -> Any:
    """The part of CloudFormation's rule functions that the template uses."""
    if not isinstance(expression, dict):
        return expression
    [(function, operands)] = expression.items()
    if function == "Ref":
        return values[operands]
    found = [evaluated(each, values) for each in operands]
    functions: dict[str, Callable[[], bool]] = {
        "Fn::Equals": lambda: found[0] == found[1],
        "Fn::EachMemberEquals": lambda: set(found[0].split(",")) == {found[1]},
        "Fn::Contains": lambda: found[1] in found[0],
        "Fn::And": lambda: all(found),
        "Fn::Or": lambda: any(found),
        "Fn::Not": lambda: not found[0],
    }
    return functions[function]()


# ------------------------------------------------------------------ alarms


def metrics_of(alarm: Any) -> list[tuple[str, Any]]:
    """The metrics of Tidemark's own that an alarm watches, with their dimensions."""
    properties = alarm["Properties"]
    watched = [each["MetricStat"]["Metric"] for each in properties.get("Metrics", [])[1:]]
    return [
        (metric["MetricName"], metric["Dimensions"])
        for metric in watched or [properties]
        if metric["Namespace"] == {"Ref": "MetricsNamespace"}
    ]


def test_every_alarm_watches_a_metric_that_is_emitted() -> None:
    watched = {name for alarm in METRIC_ALARMS for name, _ in metrics_of(alarm)}
    assert watched == {
        *("RunsSucceeded", "RunsUnderWay", "NoProgress", "HeadroomS"),
        *("Halted", "Gaps", "LeaseHeld"),
    }
    assert watched <= set(METRICS)


def test_every_alarm_watches_dimensions_that_are_emitted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alarm on dimensions that no metric has never rings, or always."""
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", stack.NAME)
    StreamTelemetry(Logger(), "orders").report(StreamSummary("orders"), 1.0)
    emitted = json.loads(capsys.readouterr().out.splitlines()[-1])
    [declared] = emitted["_aws"]["CloudWatchMetrics"]
    for alarm in METRIC_ALARMS:
        for _, dimensions in metrics_of(alarm):
            assert [each["Name"] for each in dimensions] in declared["Dimensions"]
            assert dimensions == [{"Name": "service", "Value": {"Ref": "AWS::StackName"}}]
    assert emitted["service"] == stack.NAME


def test_every_alarm_says_what_has_happened_and_what_to_do() -> None:
    for alarm in METRIC_ALARMS:
        assert len(alarm["Properties"]["AlarmDescription"].split(". ")) >= 2


@pytest.mark.parametrize("name", ALARM_NAMES)
def test_every_alarm_has_its_paragraph_for_who_is_on_call(name: str) -> None:
    operations = (stack.ROOT / "docs" / "operations.md").read_text("utf-8")
    assert f"`{name}`" in operations


def test_the_alarms_that_name_a_section_of_the_docs_name_one_that_is_there() -> None:
    operations = (stack.ROOT / "docs" / "operations.md").read_text("utf-8")
    texts = [alarm["Properties"]["AlarmDescription"] for alarm in METRIC_ALARMS]
    named = [name for text in texts for name in re.findall(r'operations\.md, "([^"]+)"', text)]
    assert len(named) == 2
    assert [name for name in named if f"\n## {name}\n" not in operations] == []


def rings(succeeded: Sequence[float | None], under_way: Sequence[float | None]) -> bool:
    """What NoSuccessAlarm says after these minutes of two metrics; None: nothing was emitted."""
    alarm = RESOURCES["NoSuccessAlarm"]["Properties"]
    last = int(PARAMETERS["AlarmSilenceMinutes"]["Default"])
    values = [
        alive(alarm["Metrics"][0]["Expression"], *minute)
        for minute in list(zip(succeeded, under_way, strict=True))[-last:]
    ]
    breaching = [value < alarm["Threshold"] for value in values]
    return all(breaching)


def alive(expression: str, succeeded: float | None, under_way: float | None) -> float:
    """The expression for one minute: CloudWatch's syntax is Python's here."""
    names = {"succeeded": succeeded, "under_way": under_way, "FILL": filled}
    value = eval(expression, {"__builtins__": {}}, names)
    assert isinstance(value, int | float)
    return value


def filled(value: float | None, instead: float) -> float:
    return instead if value is None else value


def test_a_long_catch_up_does_not_ring_for_want_of_success() -> None:
    """A run of 15 minutes succeeds only at its end."""
    assert not rings(succeeded=[1, *[0] * 14], under_way=[0, *[1] * 14])


def test_what_emits_one_of_the_two_metrics_that_are_added_up_emits_the_other() -> None:
    """What CloudWatch makes of a sum with a metric that has no data at all is not published."""
    summary = StreamSummary("orders")
    for emitted in (telemetry.metrics_of(summary, 1.0), telemetry.metrics_under_way(summary)):
        assert emitted.keys() >= {"RunsSucceeded", "RunsUnderWay"}


def test_one_minute_told_late_does_not_ring() -> None:
    assert not rings(succeeded=[None, None, 0, None, None], under_way=[None, None, 1, None, None])


@pytest.mark.parametrize("emitted", [None, 0], ids=["nothing", "failures only"])
def test_a_dead_function_rings(emitted: float | None) -> None:
    assert rings(succeeded=[1, *[emitted] * 5], under_way=[0, *[emitted] * 5])
    assert not rings(succeeded=[1, *[emitted] * 4], under_way=[0, *[emitted] * 4])


# ------------------------------------------------------------------ events and environments


def test_the_event_for_sam_local_is_the_one_that_the_schedule_sends() -> None:
    scheduled = RESOURCES["Function"]["Properties"]["Events"]["Schedule"]["Properties"]["Input"]
    event = (stack.ROOT / "events" / "schedule.json").read_text("utf-8")
    assert json.loads(event) == json.loads(scheduled)


def test_sam_local_is_given_declared_variables_only() -> None:
    """It drops the others without a word."""
    given = json.loads((stack.ROOT / "events" / "env.json").read_text("utf-8"))
    assert set(given["Parameters"]) <= set(ENVIRONMENT)


def overrides(stage: str) -> dict[str, str]:
    """What a stage of samconfig.toml sets."""
    given = SAMCONFIG[stage]["deploy"]["parameters"]["parameter_overrides"]
    return dict(each.split("=", 1) for each in given)


def test_there_is_a_stage_for_dev_staging_and_prod() -> None:
    assert STAGES == ["default", "prod", "staging"]
    names = [SAMCONFIG[stage]["deploy"]["parameters"]["stack_name"] for stage in STAGES]
    assert names == ["tidemark-dev", "tidemark-prod", "tidemark-staging"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_sets_known_parameters_to_values_that_fit_together(stage: str) -> None:
    given = overrides(stage)
    assert [name for name, value in given.items() if not allows(name, value)] == []
    assert broken_rules(given) == set()


@pytest.mark.parametrize("stage", STAGES)
def test_silence_lasts_three_periods_before_it_rings(stage: str) -> None:
    """Less would ring where one run fails; how long a run may be does not matter, see above."""
    values = {name: str(each["Default"]) for name, each in PARAMETERS.items()} | overrides(stage)
    silence_s = int(values["AlarmSilenceMinutes"]) * 60
    assert silence_s >= 3 * int(values["PeriodMinutes"]) * 60
