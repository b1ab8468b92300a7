"""AnalyzeDocuments over gRPC: the contract's form, and what is refused."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from analyzer.service import MAX_DOCUMENTS
from penstock.runtime.errors import InvalidInput, TooLarge
from penstock.v1 import analyzer_pb2
from tests.integration.analyzer.conftest import Analyzer

TEXT = (
    "We had planned to leave early, but the car would not start. My brother said it was the battery. I said it was "
    "the cold. In the end it was neither: somebody had left the lights on all night, and that somebody was me. So we "
    "took the bus, which smelled of oranges, and got there after the best part was over. Nobody minded much. There was "
    "soup, and an uncle who told the story of the goat again. 😀 On the way home it snowed a little. “Next year,” he "
    "said, “we start the car the night before.” I wrote that down, and lost the note."
)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """These store nothing: one database is enough."""
    return sqlite_url


async def test_an_answer_has_the_form_of_the_contract(analyzer: Analyzer) -> None:
    (answer,) = await analyzer.documents([TEXT])
    details = json.loads(answer.details)
    assert set(details) == {"segments", "features", "abstained", "model"}
    assert details["abstained"] is None
    assert 0 <= answer.summary.ai_probability <= 1
    counted = {"HIGH": 0, "MEDIUM": 0, "LOW": 0, "UNCERTAIN": 0}
    for segment in details["segments"]:
        assert set(segment) == {"start", "end", "ai_probability", "confidence_level", "reasons"}
        assert TEXT[segment["start"] : segment["end"]].strip()
        counted[segment["confidence_level"]] += 1
    assert list(counted.values()) == [
        answer.summary.high, answer.summary.medium, answer.summary.low, answer.summary.uncertain,
    ]  # fmt: skip
    assert TEXT[details["segments"][-1]["start"] :].endswith("I wrote that down, and lost the note.")


async def test_what_it_abstains_from_has_no_probability(analyzer: Analyzer) -> None:
    (answer,) = await analyzer.documents(["Too short."])
    assert not answer.summary.HasField("ai_probability")
    assert answer.summary.confidence_level == analyzer_pb2.CONFIDENCE_LEVEL_UNCERTAIN
    assert json.loads(answer.details)["abstained"].startswith("too short")


async def test_the_same_text_gives_the_same_bytes(analyzer: Analyzer) -> None:
    one = await analyzer.documents([TEXT])
    other = await analyzer.documents(["Something else, first.", TEXT])
    assert one[0].details == other[1].details
    assert one[0].sketch == other[1].sketch


async def test_a_bad_request_is_refused_whole(analyzer: Analyzer) -> None:
    with pytest.raises(InvalidInput, match="granularity 'word'"):
        await analyzer.documents([TEXT], "word")
    with pytest.raises(TooLarge, match="documents in one call"):
        await analyzer.documents([""] * (MAX_DOCUMENTS + 1))


async def test_it_answers_others_while_it_scores(analyzer: Analyzer) -> None:
    """A large document must not keep the event loop (and health with it) from answering."""
    work = asyncio.ensure_future(analyzer.documents([(TEXT + "\n\n") * 4_000]))
    waits = []
    while not work.done():
        began = time.process_time()  # the wall's clock goes on while other programs have the machine
        await asyncio.sleep(0.01)
        waits.append(time.process_time() - began)
    await work
    assert max(waits) < sum(waits) / 2, "scored on the loop it would be one wait"
