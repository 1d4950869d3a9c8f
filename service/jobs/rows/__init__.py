"""Rows of jobs and of quotas: in SQLite, or in a PostgreSQL that services share."""
