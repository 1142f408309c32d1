"""Alembic's environment: `engine.upgrade` hands over a connection that already holds the database's write lock."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
