"""What each error code means as the answer to an offset commit: one verdict and one reason per group, no code left out.

A commit of ours is a frontier of definite answers, so sending it again is always safe, and not sending it costs
redeliveries at most. Hence where nothing is known the verdict is "retry": the next commit carries the newest frontier.
"""

from confluent_kafka import KafkaError

__all__ = ["verdict_of"]

_E = KafkaError

# The protocol's numbers: brokers send them, and the oldest client that we work with has no names for them.
_INCONSISTENT_TOPIC_ID = 103
_INVALID_REGULAR_EXPRESSION = 128

# verdict, what it means, codes
_GROUPS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("ok", "taken", (_E.NO_ERROR,)),
    (
        "retry",
        "the group's coordinator loads, moves or cannot be reached: no definite answer",  # C10
        (
            *(_E.COORDINATOR_LOAD_IN_PROGRESS, _E.COORDINATOR_NOT_AVAILABLE, _E.NOT_COORDINATOR, _E._WAIT_COORD),
            *(_E._TRANSPORT, _E._ALL_BROKERS_DOWN, _E._RESOLVE, _E._NODE_UPDATE, _E._UNKNOWN_BROKER),
            *(_E._DESTROY_BROKER, _E.BROKER_NOT_AVAILABLE, _E.NETWORK_EXCEPTION, _E.REBOOTSTRAP_REQUIRED),
        ),
    ),
    (
        "retry",
        "Kafka did not answer in time: it may have been taken or not",
        (_E.REQUEST_TIMED_OUT, _E._TIMED_OUT, _E._TIMED_OUT_QUEUE, _E._MSG_TIMED_OUT, _E._INTR, _E._RETRY),
    ),
    (
        "retry",
        "a rebalance is under way: if the next poll leaves us the partition, it is taken then",  # C09
        (
            *(_E.REBALANCE_IN_PROGRESS, _E.ILLEGAL_GENERATION, _E.STALE_MEMBER_EPOCH, _E.MEMBER_ID_REQUIRED),
            *(_E._ASSIGN_PARTITIONS, _E._REVOKE_PARTITIONS, _E._IN_PROGRESS, _E._PREV_IN_PROGRESS, _E._CONFLICT),
            *(_E.UNRELEASED_INSTANCE_ID, _E._STATE, _E._OUTDATED, _E._WAIT_CACHE),
        ),
    ),
    (
        "retry",
        "the broker cannot write now",
        (
            *(_E.NOT_ENOUGH_REPLICAS, _E.NOT_ENOUGH_REPLICAS_AFTER_APPEND, _E._ISR_INSUFF, _E.KAFKA_STORAGE_ERROR),
            *(_E.LEADER_NOT_AVAILABLE, _E.NOT_LEADER_FOR_PARTITION, _E.REPLICA_NOT_AVAILABLE, _E.LOG_DIR_NOT_FOUND),
            *(_E.THROTTLING_QUOTA_EXCEEDED, _E.UNSTABLE_OFFSET_COMMIT, _E.CONCURRENT_TRANSACTIONS),
            *(_E.FENCED_LEADER_EPOCH, _E.UNKNOWN_LEADER_EPOCH, _E.OFFSET_NOT_AVAILABLE),
        ),
    ),
    (
        "retry",
        "the credentials are not accepted now: a password that is being rotated",  # at the start it is refused
        (
            *(_E._AUTHENTICATION, _E.SASL_AUTHENTICATION_FAILED, _E._SSL, _E.ILLEGAL_SASL_STATE),
            *(_E.DELEGATION_TOKEN_EXPIRED, _E.DELEGATION_TOKEN_NOT_FOUND, _E.DELEGATION_TOKEN_AUTH_DISABLED),
            *(_E.DELEGATION_TOKEN_AUTHORIZATION_FAILED, _E.DELEGATION_TOKEN_OWNER_MISMATCH),
            *(_E.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, _E.PRINCIPAL_DESERIALIZATION_FAILURE),
        ),
    ),
    (
        "retry",
        "the client ended, or sent nothing",
        (
            *(_E._DESTROY, _E._QUEUE_FULL, _E._PURGE_QUEUE, _E._PURGE_INFLIGHT, _E._NO_OFFSET, _E._NOOP),
            *(_E._NOENT, _E._PARTIAL, _E._CRIT_SYS_RESOURCE, _E._FS, _E._FAIL, _E._UNKNOWN_GROUP),
            *(_E._MAX_POLL_EXCEEDED, _E._FENCED),
        ),
    ),
    (
        "drop",
        "this member is out of the group: the client tells of the lost partitions in a later poll",  # C09
        (_E.UNKNOWN_MEMBER_ID, _E.FENCED_MEMBER_EPOCH, _E._ASSIGNMENT_LOST, _E.GROUP_ID_NOT_FOUND),
    ),
    (
        "drop",
        "the topic, or the partition, is no more",  # C23
        (
            *(_E.UNKNOWN_TOPIC_OR_PART, _E.UNKNOWN_TOPIC_ID, _INCONSISTENT_TOPIC_ID, _E._UNKNOWN_TOPIC),
            *(_E._UNKNOWN_PARTITION, _E.TOPIC_EXCEPTION),
        ),
    ),
    ("stop", "another process took this group.instance.id: give each its own", (_E.FENCED_INSTANCE_ID,)),
    (
        "stop",
        "this user may not commit: allow Read on the group and on the topic",
        (
            *(_E.GROUP_AUTHORIZATION_FAILED, _E.TOPIC_AUTHORIZATION_FAILED, _E.CLUSTER_AUTHORIZATION_FAILED),
            *(_E.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, _E.SECURITY_DISABLED),
        ),
    ),
    (
        "stop",
        "the broker does not take such a commit: raise its offset.metadata.max.bytes",  # D25
        (_E.OFFSET_METADATA_TOO_LARGE, _E.INVALID_COMMIT_OFFSET_SIZE),
    ),
    (
        "stop",
        "these settings cannot commit: choose another group.id, or a newer broker",
        (
            *(_E.INVALID_GROUP_ID, _E.UNSUPPORTED_VERSION, _E._UNSUPPORTED_FEATURE, _E.UNSUPPORTED_SASL_MECHANISM),
            *(_E.INCONSISTENT_GROUP_PROTOCOL, _E.INVALID_REQUEST, _E._INVALID_ARG, _E._NOT_CONFIGURED),
            *(_E._NOT_IMPLEMENTED, _E._UNKNOWN_PROTOCOL, _E.GROUP_MAX_SIZE_REACHED, _E.UNSUPPORTED_ASSIGNOR),
            *(_E.INVALID_SESSION_TIMEOUT, _INVALID_REGULAR_EXPRESSION),
        ),
    ),
    ("stop", "the client cannot go on: start again", (_E._FATAL, _E._INCONSISTENT)),
    (
        "retry",
        "never the answer to a commit: not taken for a definite one",
        (
            *(_E.UNKNOWN, _E._APPLICATION, _E._BAD_MSG, _E._BAD_COMPRESSION, _E._PARTITION_EOF, _E._AUTO_OFFSET_RESET),
            *(_E._LOG_TRUNCATION, _E._EXISTING_SUBSCRIPTION, _E._KEY_SERIALIZATION, _E._VALUE_SERIALIZATION),
            *(_E._KEY_DESERIALIZATION, _E._VALUE_DESERIALIZATION, _E._READ_ONLY, _E._UNDERFLOW, _E._INVALID_TYPE),
            *(_E._GAPLESS_GUARANTEE, _E._INVALID_DIFFERENT_RECORD, _E.OFFSET_OUT_OF_RANGE, _E.INVALID_MSG),
            *(_E.INVALID_MSG_SIZE, _E.MSG_SIZE_TOO_LARGE, _E.STALE_CTRL_EPOCH, _E.RECORD_LIST_TOO_LARGE),
            *(_E.INVALID_REQUIRED_ACKS, _E.INVALID_TIMESTAMP, _E.TOPIC_ALREADY_EXISTS, _E.INVALID_PARTITIONS),
            *(_E.INVALID_REPLICATION_FACTOR, _E.INVALID_REPLICA_ASSIGNMENT, _E.INVALID_CONFIG, _E.NOT_CONTROLLER),
            *(_E.UNSUPPORTED_FOR_MESSAGE_FORMAT, _E.POLICY_VIOLATION, _E.OUT_OF_ORDER_SEQUENCE_NUMBER),
            *(_E.DUPLICATE_SEQUENCE_NUMBER, _E.INVALID_PRODUCER_EPOCH, _E.INVALID_TXN_STATE),
            *(_E.INVALID_PRODUCER_ID_MAPPING, _E.INVALID_TRANSACTION_TIMEOUT, _E.TRANSACTION_COORDINATOR_FENCED),
            *(_E.OPERATION_NOT_ATTEMPTED, _E.UNKNOWN_PRODUCER_ID, _E.REASSIGNMENT_IN_PROGRESS),
            *(_E.INVALID_PRINCIPAL_TYPE, _E.NON_EMPTY_GROUP, _E.FETCH_SESSION_ID_NOT_FOUND),
            *(_E.INVALID_FETCH_SESSION_EPOCH, _E.LISTENER_NOT_FOUND, _E.TOPIC_DELETION_DISABLED),
            *(_E.UNSUPPORTED_COMPRESSION_TYPE, _E.STALE_BROKER_EPOCH, _E.PREFERRED_LEADER_NOT_AVAILABLE),
            *(_E.ELIGIBLE_LEADERS_NOT_AVAILABLE, _E.ELECTION_NOT_NEEDED, _E.NO_REASSIGNMENT_IN_PROGRESS),
            *(_E.GROUP_SUBSCRIBED_TO_TOPIC, _E.INVALID_RECORD, _E.PRODUCER_FENCED, _E.RESOURCE_NOT_FOUND),
            *(_E.DUPLICATE_RESOURCE, _E.UNACCEPTABLE_CREDENTIAL, _E.INCONSISTENT_VOTER_SET),
            *(_E.INVALID_UPDATE_VERSION, _E.FEATURE_UPDATE_FAILED),
            *(_E.UNKNOWN_SUBSCRIPTION_ID, _E.TELEMETRY_TOO_LARGE),
        ),
    ),
)

# Without a name in the oldest client that we work with: of share groups, streams groups and controllers, and never the
# answer to a commit.
_NEWER = (
    *("INVALID_RECORD_STATE", "SHARE_SESSION_NOT_FOUND", "INVALID_SHARE_SESSION_EPOCH", "FENCED_STATE_EPOCH"),
    *("INVALID_VOTER_KEY", "DUPLICATE_VOTER", "VOTER_NOT_FOUND", "STREAMS_INVALID_TOPOLOGY"),
    *("MISMATCHED_ENDPOINT_TYPE", "UNSUPPORTED_ENDPOINT_TYPE", "UNKNOWN_CONTROLLER_ID", "INVALID_REGISTRATION"),
    *(
        "TRANSACTION_ABORTABLE",
        "STREAMS_INVALID_TOPOLOGY_EPOCH",
        "STREAMS_TOPOLOGY_FENCED",
        "SHARE_SESSION_LIMIT_REACHED",
    ),
)

_VERDICTS: dict[int, tuple[str, str]] = {
    code: (verdict, meaning) for verdict, meaning, codes in _GROUPS for code in codes
}
_VERDICTS.update({getattr(KafkaError, name): ("retry", _GROUPS[-1][1]) for name in _NEWER if hasattr(KafkaError, name)})


def verdict_of(code: int) -> tuple[str, str]:
    """The verdict on a commit (see `core.calls.CommitResult`) and its meaning. An unknown code: retry."""
    return _VERDICTS.get(code, ("retry", "a code that this version does not know"))
