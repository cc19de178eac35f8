"""What a service's error code means for the entry, the request or the sink."""

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from tidemark.errors import SinkRefused
from tidemark.sinks.target import Failure

SDK_ERRORS = (ClientError, BotoCoreError, ResponseParserError)  # the last: a proxy's HTML
TRANSIENT = frozenset(
    {
        "BandwidthLimitExceeded",
        "ExpiredToken",
        "ExpiredTokenException",
        "InternalError",
        "InternalErrorException",
        "InternalException",
        "InternalFailure",
        "InternalFailureException",
        "KMSThrottling",
        "KMSThrottlingException",
        "KmsThrottled",
        "LimitExceededException",
        "OverLimit",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestExpired",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "NotAuthorizedForDetailTypeException",
        "NotAuthorizedForSourceException",
    }
)
MISSING = frozenset(
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "NoSuchBucket",
        "NotFound",
        "NotFoundException",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    }
)
BAD_CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId",
        "InvalidAccountIdException",
        "InvalidClientTokenId",
        "IncompleteSignature",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
UNUSABLE = frozenset(  # said of the target or the account, in a request that is as it should be
    {
        "EndpointDisabled",
        "EndpointDisabledException",
        "InvalidAddress",
        "InvalidSecurity",
        "InvalidSecurityException",
        "OptInRequired",
        "SubscriptionRequiredException",
        "UnknownOperationException",
        "UnsupportedOperation",
    }
)


def raise_if_refused(code: str, permission: str, target: str) -> None:
    """Raise SinkRefused where `code` says that no entry can ever be taken, naming the remedy."""
    if code in MISSING:
        raise SinkRefused(f"{target} does not exist in this region and account ({code})")
    if code in DENIED:
        raise SinkRefused(f"the function's role lacks {permission} on {target} ({code})")
    if code in BAD_CREDENTIALS:
        raise SinkRefused(f"the credentials are not valid for {target} ({code})")
    if code in UNUSABLE:
        raise SinkRefused(f"{target} cannot be used as it is ({code})")
    if code.upper().startswith("KMS") and code not in TRANSIENT:
        raise SinkRefused(
            f"the function's role lacks kms:GenerateDataKey and kms:Decrypt on the key of "
            f"{target}, or the key cannot be used ({code})"
        )


def failure_of(error: Exception) -> Failure:
    """What one of `SDK_ERRORS` says; `rejected` where the service blames the request."""
    if not isinstance(error, ClientError):
        return Failure(type(error).__name__)
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    return Failure(code, rejected=status < 500 and status != 429 and code not in TRANSIENT)
