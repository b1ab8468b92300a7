"""What a form's fields say of a source comes before its first byte; nonsense is refused with all that is wrong."""

from __future__ import annotations

import pytest
from starlette.types import Message

from gateway.forms import Body
from gateway.source_forms import SourceForm
from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2
from tests.unit.gateway.test_forms import BOUNDARY, END, files_of, part, sent

ACCEPTS = ("files", "zip_file", "items")


def form(*parts: bytes, size: int = 1 << 16) -> SourceForm:
    body = b"".join(parts) + END
    pieces = [body[at : at + size] for at in range(0, len(body), size)]

    async def receive() -> Message:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    return SourceForm(Body(receive), BOUNDARY, "r-1", ACCEPTS, actor="ann")


@pytest.mark.parametrize("size", [1, 50, 1 << 16])
async def test_a_catalogs_header_has_all_that_the_fields_say(size: int) -> None:
    fields = {"name": b"mice", "kind": b"catalog", "format": b"csv", "group": b"-", "skip_bad": b"true"}
    given = form(
        *(part(name, text) for name, text in fields.items()),
        part("key", b"a, b"),
        part("key", b"c"),
        part("sort", b"price desc,name"),
        part("files", b"a,b\n", "one.csv"),
        part("files", b"c,d\n", "two.csv"),
        size=size,
    )
    messages = await sent(given)
    header = messages[0].header
    assert (header.kind, header.name, header.actor) == (planner_pb2.SOURCE_KIND_CATALOG, "mice", "ann")
    assert (header.request_id, header.zip, header.HasField("tasks")) == ("r-1", False, False)
    table = header.table
    assert (table.format, table.group, table.skip_bad) == ("csv", "-", True)
    assert (list(table.key), list(table.sort)) == (["a", "b", "c"], ["price desc", "name"])
    assert files_of(messages) == [("one.csv", b"a,b\n"), ("two.csv", b"c,d\n")]


async def test_a_task_file_and_a_table_say_theirs() -> None:
    tasks = form(part("kind", b"tasks"), part("each_task", b"1"), part("batch_size", b"7"), part("files", b"-", "t.md"))
    header = (await sent(tasks))[0].header
    assert (header.kind, header.tasks.each_task, header.tasks.batch_size) == (planner_pb2.SOURCE_KIND_TASKS, True, 7)
    table = form(part("kind", b"table"), part("query", b"SELECT 1"), part("files", b"x", "t.db"))
    header = (await sent(table))[0].header
    assert (header.kind, header.origin_query, header.origin_table) == (planner_pb2.SOURCE_KIND_TABLE, "SELECT 1", "")


@pytest.mark.parametrize(
    ("files", "kind"),
    [("files", planner_pb2.SOURCE_KIND_DOCUMENTS), ("items", planner_pb2.SOURCE_KIND_ITEMS)],
)
async def test_without_a_kind_a_form_means_what_it_always_meant(
    files: str, kind: planner_pb2.SourceKind.ValueType
) -> None:
    given = form(part(files, b"x", "a"), part("granularity", b"paragraph"))
    messages = await sent(given)
    assert messages[0].header == planner_pb2.CreateSourceRequest.Header(kind=kind, request_id="r-1", actor="ann")
    assert given.values == {"granularity": "paragraph"}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([part("colour", b"red")], ["'colour'", "it takes name"]),
        ([part("files", b"x", "a"), part("name", b"late")], ["'name' comes after a file"]),
        ([part("name", b"a"), part("name", b"b")], ["'name' is given twice"]),
        ([part("kind", b"cars"), part("files", b"x", "a")], ["'cars'", "documents, items, catalog, table, tasks"]),
        ([part("kind", b"catalog"), part("zip_file", b"x", "a.zip")], ["zip_file is for kind documents"]),
        ([part("kind", b"items"), part("zip_file", b"x", "a.zip")], ["items come as JSON lines"]),
        ([part("kind", b"table"), part("items", b"x", "a")], ["the field items is for kind items"]),
        (
            [
                *(part("kind", b"tasks"), part("sort", b"a"), part("skip_bad", b"no"), part("batch_size", b"-1")),
                part("files", b"x", "a"),
            ],
            ["sort is for kind catalog or table", "skip_bad is 'no'", "batch_size is '-1'"],
        ),
        ([part("name", b"a\0b"), part("files", b"x", "a")], ["name has a NUL"]),
        ([part("query", b"q" * 60_001)], ["query has 60,001 characters"]),
    ],
)
async def test_nonsense_is_refused_with_all_that_is_wrong(parts: list[bytes], words: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        await sent(form(*parts))
    assert [word for word in words if word not in refused.value.message] == []
