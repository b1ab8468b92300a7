"""How alembic runs our migrations: on the connection that `penstock.runtime.schema.migrate` hands in, in one
transaction, in which what it `note`s of them is written, too.
"""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None)
if connection.dialect.name == "sqlite":
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    context.run_migrations()
    context.config.attributes["note"](connection)
    connection.commit()
else:
    with context.begin_transaction():
        context.run_migrations()
        context.config.attributes["note"](connection)
