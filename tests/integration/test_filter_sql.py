"""Filters in both databases: they take what they take in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.filter_sql import condition
from penstock.filters import Filter, Kind
from tests.unit.filters.test_filters import FIELDS

texts = st.sampled_from(["Razer", "razer", "Black", "É", "é", "a%b", "_", "", "\\", "10", "zz"])
values = {
    Kind.TEXT: texts.map(lambda text: "'" + text.replace("\\", "\\\\") + "'"),
    Kind.NUMBER: st.sampled_from(["0", "1", "-3", "49.5", "70", "5000000000", "-1e3"]),
    Kind.BOOLEAN: st.sampled_from(["true", "false"]),
    Kind.TIME: st.sampled_from(['"1970-01-01T00:00:00Z"', '"1970-01-01T00:00:01Z"']),
}
PLAIN = [name for name, field in FIELDS.items() if not field.values]


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(PLAIN))
    kind = FIELDS[name].kind
    written = f"`{name}`"
    signs = {
        Kind.TEXT: ["=", "!=", "<", "<=", ">", ">=", ":"],
        Kind.BOOLEAN: ["=", "!="],
    }.get(kind, ["=", "!=", "<", "<=", ">", ">="])
    how = draw(st.sampled_from([*signs, "in", "is null", "is not null"]))
    if how.startswith("is"):
        return f"{written} {how}"
    if how == "in":
        return f"{written} in ({', '.join(draw(st.lists(values[kind], min_size=1, max_size=3)))})"
    return f"{written} {how} {draw(values[kind])}"


filters = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(lambda one: f"NOT ({one})"),
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda p: f"({p[0]}) {p[1]} ({p[2]})"),
    ),
    max_leaves=6,
)
rows = st.fixed_dictionaries(
    {
        "brand": st.none() | texts,
        "variant": st.none() | texts,
        "price": st.none() | st.sampled_from([0, 1, -3, 49.5, 70, 5_000_000_000]),
        "sold": st.none() | st.booleans(),
        "made": st.none() | st.sampled_from([0, 1_000]),
        "odd name": st.none() | texts,
    }
)

table = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("brand", sa.Text),
    sa.Column("variant", sa.Text),
    sa.Column("price", sa.Double),
    sa.Column("sold", sa.Boolean),
    sa.Column("made", sa.Integer),
    sa.Column("odd name", sa.Text),
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def connection(request: pytest.FixtureRequest) -> Iterator[sa.Connection]:
    if request.param == "sqlite":
        url = "sqlite://"
    else:
        server = request.getfixturevalue("postgres")
        url = server.create_database().replace("postgresql://", "postgresql+psycopg://", 1)
    engine = sa.create_engine(url)
    with engine.connect() as one:
        table.create(one)
        yield one
    engine.dispose()


@settings(max_examples=300, deadline=None)
@given(text=filters, held=st.lists(rows, min_size=1, max_size=4))
def test_memory_and_databases_agree_on_every_filter(
    connection: sa.Connection, text: str, held: list[dict[str, object]]
) -> None:
    chosen = Filter.parse(text, FIELDS)
    connection.execute(sa.delete(table))
    connection.execute(sa.insert(table), [{"number": i, **row} for i, row in enumerate(held)])
    columns: dict[str, sa.ColumnElement[object]] = dict(table.c.items())
    found = connection.execute(sa.select(table.c.number).where(condition(chosen, columns)).order_by(table.c.number))
    assert found.scalars().all() == [i for i, row in enumerate(held) if chosen.matches(row)]
