"""The server's passing faults: codes that are tried again inside the run, by what to check.

Sources: the server's `src/mongo/base/error_codes.yml`, categories NetworkError, NotPrimaryError,
ShutdownError, Interruption, CursorInvalidatedError, StaleShardVersionError, ExceededTimeLimitError,
SystemOverloadedError and RetriableError, less what a change stream cannot meet (transactions,
writes, index builds); those marked S are in the drivers' specification "Change Streams" too,
section "Resumable Error". MaxTimeMSExpired (50) is not here: the driver calls it a timeout, by
whatever limit, and so do we. 16500 is Azure Cosmos DB's (its page on change streams).
"""

from collections.abc import Mapping

_RETRIED = "it is tried again while the run lasts; if it keeps coming, "
_FAILOVER = f"a failover, a restart or a node that starts: {_RETRIED}check the cluster's state"
_NETWORK = f"one of its nodes did not reach another: {_RETRIED}check the cluster's own network"
_ENDED = (
    f"the operation was ended on the server, by an operator, a deployment or a drop: {_RETRIED}"
    "check who runs killOp or killCursors"
)
_ROUTING = (
    f"the cluster's shards or their data were moved: {_RETRIED}check its balancer and config "
    "servers"
)
_BUSY = f"it is overloaded or limits its requests: {_RETRIED}scale it up or run less often"
_TOO_SLOW = f"a time limit of the server's own was exceeded: {_RETRIED}check the cluster's load"
_MAJORITY = (
    "no majority of the nodes has confirmed the data that is asked for: "
    f"{_RETRIED}check that most of the data-bearing nodes are up"
)
_READ_PREFERENCE = (
    f"no node fits the connection string's read preference: {_RETRIED}check readPreference, its "
    "tags and maxStalenessSeconds, and that such a node is up"
)

PASSING: Mapping[str, Mapping[int, str]] = {
    _FAILOVER: {
        91: "ShutdownInProgress",  # S
        94: "NotYetInitialized",
        189: "PrimarySteppedDown",  # S
        203: "ShardingStateNotInitialized",
        211: "KeyNotFound",  # the signing keys of cluster times, after an election or a restore
        216: "ElectionInProgress",
        245: "BrokenPromise",  # how a shutdown ends what waits
        10058: "LegacyNotPrimary",
        10107: "NotWritablePrimary",  # S
        11600: "InterruptedAtShutdown",  # S
        11602: "InterruptedDueToReplStateChange",  # S
        13435: "NotPrimaryNoSecondaryOk",  # S
        13436: "NotPrimaryOrSecondary",  # S
    },
    _NETWORK: {
        6: "HostUnreachable",  # S
        7: "HostNotFound",  # S
        89: "NetworkTimeout",  # S
        145: "PooledConnectionsDropped",
        303: "SplitHorizonChange",
        317: "ConnectionPoolExpired",
        384: "ConnectionError",
        9001: "SocketException",  # S
        91331: "RetriableRemoteCommandFailure",
    },
    _ENDED: {
        43: "CursorNotFound",  # S
        90: "CallbackCanceled",
        143: "CursorInUse",
        175: "QueryPlanKilled",
        237: "CursorKilled",
        279: "ClientDisconnect",
        314: "ObjectIsBusy",
        355: "InterruptedDueToStorageChange",
        11601: "Interrupted",
        46841: "ClientMarkedKilled",
        10045600: "InterruptedDueToFCVChange",
    },
    _ROUTING: {
        63: "StaleShardVersion",  # S
        149: "NoConfigPrimary",
        150: "StaleEpoch",  # S
        234: "RetryChangeStream",  # S
        249: "StaleDbVersion",
        453: "InterruptedDueToReshardingCriticalSection",
        13388: "StaleConfig",  # S
        56846: "ConfigServerUnreachable",
    },
    _BUSY: {
        24: "LockTimeout",
        46: "LockBusy",
        112: "WriteConflict",
        264: "TooManyFilesOpen",
        365: "TemporarilyUnavailable",
        402: "ResourceExhausted",
        433: "AdmissionQueueOverflow",
        449: "RateLimitExceeded",
        450: "PooledConnectionAcquisitionRejected",
        462: "IngressRequestRateLimitExceeded",
        16500: "RequestRateTooLarge",  # Azure Cosmos DB; no code of MongoDB's
    },
    _TOO_SLOW: {
        202: "NetworkInterfaceExceededTimeLimit",
        262: "ExceededTimeLimit",  # S
        407: "PooledConnectionAcquisitionExceededTimeLimit",
    },
    _MAJORITY: {
        134: "ReadConcernMajorityNotAvailableYet",
        239: "SnapshotTooOld",
        246: "SnapshotUnavailable",
    },
    _READ_PREFERENCE: {133: "FailedToSatisfyReadPreference"},  # S
}
