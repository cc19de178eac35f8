"""The stack as CloudFormation makes it: what the services hold afterwards.

Before it is believed, each assertion asks the service; `properties` stands in only for what moto's
service forgets.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

import stack

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = {"MongodbSecretId": "tidemark/dev/mongodb"}
KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
TOPIC = "arn:aws:sns:us-east-1:123456789012:on-call"
ALARMS = {
    "ErrorsAlarm",
    "ThrottlesAlarm",
    "NoSuccessAlarm",
    "NoProgressAlarm",
    "HeadroomAlarm",
    "DeadLettersAlarm",
    "HaltedAlarm",
    "GapsAlarm",
    "LeaseNeverFreeAlarm",
}


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty AWS inside this process."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", stack.REGION)
    with mock_aws():
        yield


def function(deployed: stack.Stack) -> Any:
    name = deployed.outputs["FunctionName"]
    return boto3.client("lambda").get_function_configuration(FunctionName=name)


def alarms() -> dict[str, Any]:
    """The alarms by logical id, which is the middle of their names."""
    found = boto3.client("cloudwatch").describe_alarms()["MetricAlarms"]
    return {alarm["AlarmName"].split("-")[-2]: alarm for alarm in found}


def test_every_resource_of_the_template_is_created() -> None:
    """Moto leaves out what it does not know without a word: nothing may be left out."""
    deployed = stack.deploy(**SECRET)
    declared = stack.translated(SECRET)["Resources"]
    met = (None, "Scheduled", "WatchesHeadroom")
    wanted = {name for name, each in declared.items() if each.get("Condition") in met}
    assert set(deployed.resources) == wanted


def test_the_state_table_is_keyed_by_stream_and_record_and_paid_by_request() -> None:
    deployed = stack.deploy(**SECRET)
    name = deployed.outputs["StateTableName"]
    table = boto3.client("dynamodb").describe_table(TableName=name)["Table"]
    assert table["KeySchema"] == [
        {"AttributeName": "stream", "KeyType": "HASH"},
        {"AttributeName": "record", "KeyType": "RANGE"},
    ]
    assert {each["AttributeType"] for each in table["AttributeDefinitions"]} == {"S"}
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


def test_the_state_table_is_encrypted_and_recoverable() -> None:
    properties = stack.deploy(**SECRET).properties("StateTable")
    assert properties["SSESpecification"] == {"SSEEnabled": True}
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


@pytest.mark.parametrize("logical_id", ["StateTable", "DeadLetterQueue", "PayloadBucket"])
def test_what_holds_the_only_copy_outlives_the_stack(logical_id: str) -> None:
    resource = stack.translated(SECRET)["Resources"][logical_id]
    assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_the_function_is_told_where_its_state_lives() -> None:
    deployed = stack.deploy(**SECRET)
    variables = function(deployed)["Environment"]["Variables"]
    assert variables["TIDEMARK_TABLE"] == deployed.resources["StateTable"]
    assert variables["TIDEMARK_DEAD_LETTER_QUEUE_URL"] == deployed.resources["DeadLetterQueue"]
    assert variables["TIDEMARK_PAYLOAD_BUCKET"] == deployed.resources["PayloadBucket"]
    assert variables["MONGODB_SECRET_ID"] == "tidemark/dev/mongodb"
    assert variables["POWERTOOLS_SERVICE_NAME"] == stack.NAME


def test_no_local_setting_reaches_the_cloud() -> None:
    variables = function(stack.deploy(**SECRET))["Environment"]["Variables"]
    assert (variables["MONGODB_URI"], variables["AWS_ENDPOINT_URL"]) == ("", "")


def test_the_function_has_the_size_that_its_parameters_give() -> None:
    deployed = stack.deploy(**SECRET, MemoryMb="1024", TimeoutS="300", Architecture="x86_64")
    made = function(deployed)
    assert (made["MemorySize"], made["Timeout"]) == (1024, 300)
    assert (made["Runtime"], made["Handler"]) == ("python3.13", "app.lambda_handler")
    assert deployed.properties("Function")["Architectures"] == ["x86_64"]


def test_the_function_runs_on_arm64_with_our_layer_by_default() -> None:
    deployed = stack.deploy(**SECRET)
    properties = deployed.properties("Function")
    assert properties["Architectures"] == ["arm64"]
    assert len(properties["Layers"]) == 1


def test_no_concurrency_is_reserved_unless_asked_for() -> None:
    """A small account has none to set aside; and 0 would mean that the function never runs."""
    properties = stack.deploy(**SECRET).properties("Function")
    assert "ReservedConcurrentExecutions" not in properties


def test_concurrency_is_reserved_when_asked_for() -> None:
    deployed = stack.deploy(**SECRET, ReservedConcurrency="2")
    answer = boto3.client("lambda").get_function_concurrency(
        FunctionName=deployed.outputs["FunctionName"]
    )
    assert answer["ReservedConcurrentExecutions"] == 2


def test_an_asynchronous_invocation_is_neither_repeated_nor_late() -> None:
    """The next scheduled run is the retry."""
    deployed = stack.deploy(**SECRET)
    config = boto3.client("lambda").get_function_event_invoke_config(
        FunctionName=deployed.outputs["FunctionName"]
    )
    assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (0, 60)


def schedule(deployed: stack.Stack) -> Any:
    return boto3.client("scheduler").get_schedule(Name=deployed.resources["FunctionSchedule"])


def test_the_schedule_starts_a_run_each_period_and_repeats_none() -> None:
    deployed = stack.deploy(**SECRET, PeriodMinutes="5")
    made = schedule(deployed)
    assert (made["ScheduleExpression"], made["State"]) == ("rate(5 minutes)", "ENABLED")
    assert made["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert made["Target"]["Arn"] == function(deployed)["FunctionArn"]
    assert made["Target"]["Input"] == "{}"
    assert made["Target"]["RetryPolicy"] == {
        "MaximumRetryAttempts": 0,
        "MaximumEventAgeInSeconds": 60,
    }


def test_the_schedules_role_may_invoke_the_function_and_nothing_else() -> None:
    deployed = stack.deploy(**SECRET)
    [policy] = deployed.properties("FunctionScheduleRole")["Policies"]
    assert policy["PolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Action": "lambda:InvokeFunction",
            "Resource": function(deployed)["FunctionArn"],
        }
    ]


def test_a_schedule_can_be_deployed_at_rest_and_then_misses_no_success() -> None:
    deployed = stack.deploy(**SECRET, ScheduleState="DISABLED")
    assert schedule(deployed)["State"] == "DISABLED"
    assert set(alarms()) == ALARMS - {"NoSuccessAlarm"}


def test_two_stacks_of_one_account_have_schedules_of_their_own() -> None:
    """SAM would name each stack's schedule "FunctionSchedule"."""
    assert "Name" not in stack.deploy(**SECRET).properties("FunctionSchedule")


def queue_attributes(deployed: stack.Stack) -> Any:
    return boto3.client("sqs").get_queue_attributes(
        QueueUrl=deployed.outputs["DeadLetterQueueUrl"], AttributeNames=["All"]
    )["Attributes"]


def test_dead_letters_are_kept_for_fourteen_days_and_encrypted() -> None:
    attributes = queue_attributes(stack.deploy(**SECRET))
    assert attributes["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    assert attributes["SqsManagedSseEnabled"] == "true"


def test_queue_and_bucket_refuse_connections_without_tls() -> None:
    deployed = stack.deploy(**SECRET)
    bucket = deployed.outputs["PayloadBucketName"]
    policies = [
        queue_attributes(deployed)["Policy"],
        boto3.client("s3").get_bucket_policy(Bucket=bucket)["Policy"],
    ]
    for [statement] in (json.loads(policy)["Statement"] for policy in policies):
        assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_payload_bucket_is_private_encrypted_and_forgets() -> None:
    properties = stack.deploy(**SECRET).properties("PayloadBucket")
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["OwnershipControls"] == {
        "Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]
    }
    [encryption] = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    [rule] = properties["LifecycleConfiguration"]["Rules"]
    assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", 30)


def test_logs_are_dropped_when_their_retention_is_over() -> None:
    deployed = stack.deploy(**SECRET, LogRetentionDays="7")
    [group] = boto3.client("logs").describe_log_groups()["logGroups"]
    assert group["retentionInDays"] == 7
    assert group["logGroupName"] == deployed.outputs["LogGroupName"]
    assert deployed.properties("Function")["LoggingConfig"]["LogGroup"] == group["logGroupName"]


@pytest.mark.parametrize(
    ("parameters", "mode"),
    [({}, "PassThrough"), ({"Tracing": "Active"}, "Active")],
    ids=["default", "active"],
)
def test_the_function_is_traced_only_when_asked_for(parameters: dict[str, str], mode: str) -> None:
    properties = stack.deploy(**SECRET, **parameters).properties("Function")
    assert properties["TracingConfig"] == {"Mode": mode}


def test_one_key_of_the_customers_encrypts_everything_that_is_stored() -> None:
    deployed = stack.deploy(**SECRET, KmsKeyArn=KEY)
    assert queue_attributes(deployed)["KmsMasterKeyId"] == KEY
    assert deployed.properties("StateTable")["SSESpecification"]["KMSMasterKeyId"] == KEY
    assert deployed.properties("LogGroup")["KmsKeyId"] == KEY
    [encryption] = deployed.properties("PayloadBucket")["BucketEncryption"][
        "ServerSideEncryptionConfiguration"
    ]
    assert encryption["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == KEY


def test_the_function_joins_the_vpc_that_it_is_given() -> None:
    deployed = stack.deploy(
        **SECRET, SubnetIds="subnet-0123abcd,subnet-4567abcd", SecurityGroupIds="sg-0123abcd"
    )
    assert deployed.properties("Function")["VpcConfig"] == {
        "SubnetIds": ["subnet-0123abcd", "subnet-4567abcd"],
        "SecurityGroupIds": ["sg-0123abcd"],
    }


def test_the_function_is_in_no_vpc_by_default() -> None:
    assert "VpcConfig" not in stack.deploy(**SECRET).properties("Function")


def test_all_alarms_notify_one_topic_when_they_ring_and_when_they_stop() -> None:
    stack.deploy(**SECRET, AlarmTopicArn=TOPIC)
    made = alarms()
    assert set(made) == ALARMS
    assert {tuple(alarm["AlarmActions"]) for alarm in made.values()} == {(TOPIC,)}
    assert {tuple(alarm["OKActions"]) for alarm in made.values()} == {(TOPIC,)}


def test_alarms_without_a_topic_notify_nobody() -> None:
    stack.deploy(**SECRET)
    assert [alarm["AlarmActions"] for alarm in alarms().values()] == [[]] * len(ALARMS)


def test_silence_alone_rings_the_alarm_that_waits_for_success() -> None:
    """The other alarms see nothing of a function that never runs."""
    stack.deploy(**SECRET, AlarmSilenceMinutes="15")
    made = alarms()
    alarm = made.pop("NoSuccessAlarm")
    assert alarm["TreatMissingData"] == "breaching"
    periods_s = {each["MetricStat"]["Period"] for each in alarm["Metrics"][1:]}
    assert periods_s == {60}
    assert alarm["EvaluationPeriods"] == 15
    assert {each["TreatMissingData"] for each in made.values()} == {"notBreaching"}


def test_headroom_rings_below_its_parameter_and_zero_means_no_alarm() -> None:
    stack.deploy(**SECRET, HeadroomAlarmS="3600")
    alarm = alarms()["HeadroomAlarm"]
    assert (alarm["Statistic"], alarm["ComparisonOperator"]) == ("Minimum", "LessThanThreshold")
    assert alarm["Threshold"] == 3600


def test_a_stack_that_asks_for_no_headroom_alarm_gets_none() -> None:
    stack.deploy(**SECRET, HeadroomAlarmS="0")
    assert set(alarms()) == ALARMS - {"HeadroomAlarm"}
