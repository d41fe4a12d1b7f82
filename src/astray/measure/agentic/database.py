"""Database of an office, in memory: as it was at the start, and after each statement that was run.

The desk runs statements on it; a gate reads what they did, whatever their wording.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from astray.measure.agentic.acts import Act, QueryRun


@contextmanager
def opened(schema: str, acts: Sequence[Act] = ()) -> Iterator[sqlite3.Connection]:
    """Open the database after the statements among the acts; it ends with the block.

    Args:
        schema: SQL that makes it.
        acts: what was done so far; statements that only read are not run again.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        # What is no text is shown and read all the same.
        database.text_factory = lambda text: text.decode("utf-8", errors="replace")
        database.executescript(schema)
        for act in acts:
            if isinstance(act, QueryRun) and act.changes:
                database.execute(act.sql).fetchall()
        yield database


def states(schema: str, acts: Sequence[Act]) -> Iterator[tuple[int, sqlite3.Connection]]:
    """Yield the index of each act that may have changed the data, with the database after it.

    An open transaction is passed over: it holds from its commit on, and never if it is rolled back.
    """
    with opened(schema) as database:
        for number, act in enumerate(acts):
            if isinstance(act, QueryRun) and act.changes:
                database.execute(act.sql).fetchall()
                if not database.in_transaction:
                    yield number, database
