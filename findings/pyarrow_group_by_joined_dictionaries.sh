#!/usr/bin/env bash
# pyarrow joins tables whose encoded texts differ, counts their values, and cannot group by them.
#
# Versions   pyarrow 26.0.1
# Behaviour  A column of dictionary type, as categories of pandas and encoded columns of Parquet
#            are, has other words in each of two tables. concat_tables takes both, and value_counts
#            counts the words over both; group_by raises ArrowNotImplementedError. Two tables with
#            the same words are grouped, so that a script works until a slide has another class.
#            unify_dictionaries() before, or plain text, is grouped.
# Seen       same words: grouped, other words: Unifying differing dictionaries, unified: grouped,
#            text: grouped
# Exits with another status than 0 once that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1
env/bin/python - <<'PYTHON'
import pyarrow as pa
import pyarrow.compute as pc


def encoded(*words):
    return pa.table({"class": pa.array(words).dictionary_encode()})


def grouped(table):
    try:
        counts = table.group_by("class").aggregate([([], "count_all")]).to_pylist()
    except pa.ArrowNotImplementedError as error:
        return str(error)
    assert sum(row["count_all"] for row in counts) == table.num_rows
    return "grouped"


same = pa.concat_tables([encoded("Tumor", "Stroma"), encoded("Tumor", "Stroma")])
joined = pa.concat_tables([encoded("Tumor", "Tumor"), encoded("Stroma")])
counts = pc.value_counts(joined["class"]).to_pylist()
assert {row["values"]: row["counts"] for row in counts} == {"Tumor": 2, "Stroma": 1}
seen = (
    grouped(same),
    grouped(joined),
    grouped(joined.unify_dictionaries()),
    grouped(pa.table({"class": joined["class"].cast(pa.string())})),
)
print("same words: {}, other words: {}, unified: {}, text: {}".format(*seen))
assert seen == ("grouped", "Unifying differing dictionaries", "grouped", "grouped")
PYTHON
