"""Results: one JSON file a run, with what decided it, what it scored, what it cost and where it came from.

A run is one backbone, task, data set, method and seed. Its ``id`` is a hash of all that decides its scores, so an
interrupted sweep finds what it has done, and a changed setting can never overwrite an earlier result.
"""

from zipeft.results.environment import Environment, current_environment
from zipeft.results.identity import RESULT_VERSION, comparability, conditions_key, differences, run_id
from zipeft.results.record import (
    PROTOCOL_FIELDS,
    SCHEMA,
    BackboneRecord,
    Cost,
    Epoch,
    MethodRecord,
    Result,
    Scores,
    Sizes,
    TaskRecord,
    now,
)
from zipeft.results.store import find, load_result, load_results, read_results, result_path, save_result

__all__ = [
    "PROTOCOL_FIELDS",
    "RESULT_VERSION",
    "SCHEMA",
    "BackboneRecord",
    "Cost",
    "Environment",
    "Epoch",
    "MethodRecord",
    "Result",
    "Scores",
    "Sizes",
    "TaskRecord",
    "comparability",
    "conditions_key",
    "current_environment",
    "differences",
    "find",
    "load_result",
    "load_results",
    "now",
    "read_results",
    "result_path",
    "run_id",
    "save_result",
]
