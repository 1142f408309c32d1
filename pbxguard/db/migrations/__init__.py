"""Alembic's environment and the revisions, inside the package so that an installed wheel can upgrade its database.

Revisions are written by hand: `versions/rNNNN_what.py`. They never import `tables.py`, which tells of now only.
"""
