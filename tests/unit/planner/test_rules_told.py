"""The rules of a stage, as a plan keeps them, are told to people without base64."""

from __future__ import annotations

from google.protobuf.json_format import MessageToDict

from penstock.v1 import rules_pb2
from planner.rules import as_message, as_told


def test_parameters_within_rules_are_told_as_objects() -> None:
    message = rules_pb2.StageRules(
        heal=rules_pb2.HealRules(attempts=1, processor="mend", parameters=b'{"gently":true}'),
        confirm=rules_pb2.ConfirmRules(processor="check"),
        budget_micros=5,
    )
    kept = MessageToDict(message, preserving_proto_field_name=True)
    told = as_told(kept)
    assert told["heal"]["parameters"] == {"gently": True}
    assert told["confirm"] == {"processor": "check"}
    assert told["budget_micros"] == kept["budget_micros"]
    assert as_message(kept) == message, "what the plan keeps stays as it is"
