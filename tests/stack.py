"""The template as data, and deployed as a CloudFormation stack on moto.

moto's CloudFormation skips what it does not know, without an error: `AWS::Serverless::*`, and some
plain resources although it has their services. The first are translated by SAM's own translator,
the second taught to it here, through each service's own API, whose SDK judges every property.
"""

from __future__ import annotations

import io
import json
import zipfile
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
from moto.cloudformation import parsing
from moto.cloudformation.models import cloudformation_backends
from moto.core.models import DEFAULT_ACCOUNT_ID as ACCOUNT_ID
from moto.events.models import EventBus
from moto.sqs.models import Queue
from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]
from samtranslator.translator.translator import Translator  # type: ignore[import-untyped]
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parent.parent
NAME = "tidemark-test"
REGION = "us-east-1"
ARTIFACTS = "artifacts"

Json = dict[str, Any]


def template() -> Json:
    """template.yaml, its short-form functions written out; the caller's to change."""
    return deepcopy(_parsed())


@cache
def _parsed() -> Json:
    parsed: Json = yaml_parse((ROOT / "template.yaml").read_text("utf-8"))
    return parsed


def translated(parameters: Mapping[str, str]) -> Json:
    """The template as SAM hands it to CloudFormation, its code packaged under `ARTIFACTS`."""
    packaged = template()
    packaged["Resources"]["Function"]["Properties"]["CodeUri"] = f"s3://{ARTIFACTS}/code.zip"
    packaged["Resources"]["TidemarkLayer"]["Properties"]["ContentUri"] = (
        f"s3://{ARTIFACTS}/code.zip"
    )
    result: Json = Translator({}, Parser()).translate(packaged, dict(parameters))
    return result


@dataclass(frozen=True)
class Stack:
    """A deployed stack: its resources' physical ids by logical id, and its outputs."""

    resources: Mapping[str, str]
    outputs: Mapping[str, str]

    def properties(self, logical_id: str) -> Any:
        """A resource's properties as CloudFormation hands them to its service.

        For what moto's services do not keep: its table knows no recovery, its function no layer.
        """
        [deployed] = cloudformation_backends[ACCOUNT_ID][REGION].stacks.values()
        resource = deployed.template_dict["Resources"][logical_id]
        return _present(parsing.clean_json(resource["Properties"], deployed.resource_map))


def _present(value: Any) -> Any:
    """Drop what is `AWS::NoValue`, which moto leaves as None."""
    if isinstance(value, dict):
        return {key: _present(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_present(each) for each in value if each is not None]
    return value


def deploy(**parameters: str) -> Stack:
    """Create the stack through CloudFormation's API, inside the caller's `mock_aws`."""
    _upload_code()
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(
        StackName=NAME,
        TemplateBody=json.dumps(translated(parameters)),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    [stack] = cloudformation.describe_stacks(StackName=NAME)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    resources = cloudformation.describe_stack_resources(StackName=NAME)["StackResources"]
    return Stack(
        {
            each["LogicalResourceId"]: each.get("PhysicalResourceId", "")
            for each in resources
            if "LogicalResourceId" in each  # a resource whose condition is false has none
        },
        {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]},
    )


def _upload_code() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("app.py", "")
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=ARTIFACTS)
    s3.put_object(Bucket=ARTIFACTS, Key="code.zip", Body=content.getvalue())


# ------------------------------------------------------------------ what moto has to be taught


def _alarm(name: str, properties: Json) -> None:
    _call("cloudwatch", "PutMetricAlarm", properties | {"AlarmName": name})


def _schedule(name: str, properties: Json) -> None:
    _call("scheduler", "CreateSchedule", properties | {"Name": name})


def _event_invoke_config(_: str, properties: Json) -> None:
    _call("lambda", "PutFunctionEventInvokeConfig", properties)


def _queue_policy(_: str, properties: Json) -> None:
    policy = json.dumps(properties["PolicyDocument"])
    for url in properties["Queues"]:
        _call("sqs", "SetQueueAttributes", {"QueueUrl": url, "Attributes": {"Policy": policy}})


def _bucket_policy(_: str, properties: Json) -> None:
    policy = json.dumps(properties["PolicyDocument"])
    _call("s3", "PutBucketPolicy", {"Bucket": properties["Bucket"], "Policy": policy})


def _subscription(_: str, properties: Json) -> None:
    attributes = {"RawMessageDelivery": json.dumps(properties.pop("RawMessageDelivery"))}
    _call("sns", "Subscribe", properties | {"Attributes": attributes})


def _call(service: str, operation: str, arguments: Json) -> None:
    client = boto3.client(service)  # type: ignore[call-overload]  # any service
    shape = client.meta.service_model.operation_model(operation).input_shape
    method = next(m for m, o in client.meta.method_to_api_mapping.items() if o == operation)
    getattr(client, method)(**_coerced(arguments, shape))


def _coerced(value: Any, shape: Any) -> Any:
    """Numbers out of parameters arrive as strings, and CloudFormation makes them numbers again."""
    if shape.type_name == "structure":
        return {key: _coerced(each, shape.members[key]) for key, each in value.items()}
    if shape.type_name == "list":
        return [_coerced(each, shape.member) for each in value]
    kinds: dict[str, Callable[[Any], Any]] = {"integer": int, "double": float}
    return kinds.get(shape.type_name, lambda same: same)(value)


@dataclass
class Taught:
    """A resource of a type that moto did not know; what moto asks of one."""

    physical_resource_id: str

    @staticmethod
    def cloudformation_name_type() -> str:
        """No property names such a resource."""
        return ""

    @staticmethod
    def is_created() -> bool:
        """It exists as soon as its API has answered."""
        return True


def _teach(resource_type: str, apply: Callable[[str, Json], None]) -> None:
    def create(name: str, resource: Json, *_: object, **__: object) -> Taught:
        apply(name, _present(resource["Properties"]))
        return Taught(name)

    model = type("Taught", (Taught,), {"create_from_cloudformation_json": staticmethod(create)})
    parsing.get_model_map()[resource_type] = cast("Any", model)


_teach("AWS::CloudWatch::Alarm", _alarm)
_teach("AWS::Scheduler::Schedule", _schedule)
_teach("AWS::Lambda::EventInvokeConfig", _event_invoke_config)
_teach("AWS::SQS::QueuePolicy", _queue_policy)
_teach("AWS::S3::BucketPolicy", _bucket_policy)
_teach("AWS::SNS::Subscription", _subscription)

# ------------------------------------------------------------------ what moto does otherwise

_create_queue = Queue.create_from_cloudformation_json


def _create_named_queue(name: str, resource: Json, *where: Any, **rest: Any) -> Queue:
    """The name that CloudFormation makes for a FIFO queue ends in .fifo; moto refuses its own."""
    is_fifo = resource["Properties"].get("FifoQueue")
    return _create_queue(f"{name}.fifo" if is_fifo else name, resource, *where, **rest)


cast("Any", Queue).create_from_cloudformation_json = staticmethod(_create_named_queue)
# A Ref to a bus is its name; moto's gives the object.
cast("Any", EventBus).physical_resource_id = property(lambda bus: bus.name)
