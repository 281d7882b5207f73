"""What spreadsheets do to text."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def without_formulas(rows: pa.Table) -> pa.Table:
    """Return the rows with an apostrophe before each text that a spreadsheet would compute."""
    columns = [
        pc.replace_substring_regex(column, r"^([=+\-@])", r"'\1")
        if pa.types.is_string(column.type)
        else column
        for column in rows.columns
    ]
    return pa.table(columns, schema=rows.schema)
