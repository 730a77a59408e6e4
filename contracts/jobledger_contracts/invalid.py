"""Why a record cannot be an event: the one error of `envelope`, and the reasons that dead letters carry."""

from __future__ import annotations

from enum import StrEnum


class Invalid(StrEnum):
    """Why a record cannot be an event. These are the reasons in the dead letters."""

    NO_KEY = "no_key"
    BAD_KEY = "bad_key"  #: not what this topic is keyed by
    WRONG_PARTITION = "wrong_partition"  #: the producer's partitioner is not murmur2
    NOT_UTF8 = "not_utf8"
    NO_DATA = "no_data"
    BAD_JSON = "bad_json"
    NOT_CLOUDEVENT = "not_cloudevent"  #: an attribute that every CloudEvent has is missing or bad
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_VERSION = "unknown_version"
    BAD_DATA = "bad_data"  #: the data does not have the shape of its type
    KEY_MISMATCH = "key_mismatch"  #: key, partitionkey and data name different things
    TOO_LARGE = "too_large"
    PARKED = "parked"  #: nothing wrong with it: an earlier event of its key is in the dead letters


class InvalidEvent(Exception):
    """The record is no event of ours; trying again cannot help. Carries the reason and what is wrong in words."""

    def __init__(self, reason: Invalid, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason, self.detail = reason, detail
