"""Results: records in JSON, with what decided each, what it scored, what it cost and where it came from.

A run is one backbone, task, data set, method and seed; a trial is a training of the search before it; a failure is
either, failed. The ``id`` is a hash of all that decides the scores, so an interrupted sweep finds what it has done, and
a changed setting can never overwrite an earlier result.
"""

from zipeft.results.differences import conditions_key, differences
from zipeft.results.environment import Environment, current_environment
from zipeft.results.identity import RESULT_VERSION, record_id
from zipeft.results.parts import BackboneRecord, Cost, Epoch, MethodRecord, Sizes, TaskRecord, Tried, Trivial
from zipeft.results.reading import Place, read_records, read_results
from zipeft.results.record import (
    KINDS,
    PROTOCOL_FIELDS,
    SCHEMA,
    Failure,
    Record,
    Result,
    Trained,
    Trial,
    from_json,
    now,
)
from zipeft.results.store import Store, result_path, save_result

__all__ = [
    "KINDS",
    "PROTOCOL_FIELDS",
    "RESULT_VERSION",
    "SCHEMA",
    "BackboneRecord",
    "Cost",
    "Environment",
    "Epoch",
    "Failure",
    "MethodRecord",
    "Place",
    "Record",
    "Result",
    "Sizes",
    "Store",
    "TaskRecord",
    "Trained",
    "Trial",
    "Tried",
    "Trivial",
    "conditions_key",
    "current_environment",
    "differences",
    "from_json",
    "now",
    "read_records",
    "read_results",
    "record_id",
    "result_path",
    "save_result",
]
