"""The checks of the house: they find what they are for, and the house passes them."""

import pytest

from tools.sql_home import find_sql, names_table, outside_stores
from tools.trace_round import is_tool, read_tools

CASES = [
    ("select path from clips", True),
    ("insert into label_events values (1)", True),
    ("delete from clip_state where clip_id = 1", True),
    ("update runs set as_of = 1", True),
    ("from review_queue", True),
    ('with a as (select 1) select * from a join "folds" using (clip_id)', True),
    ("create temp view predictions as select 1", False),
    ("predictions of runs from clips that people sent", False),
    ("no clip fits: nothing to send", False),
    ("select num_rows from parquet_file_metadata(?)", False),
]


@pytest.mark.parametrize(("text", "found"), CASES)
def test_sql_that_names_a_table_is_told_from_words(text, found):
    assert names_table(text) is found


def test_literals_are_looked_at_and_docstrings_are_not():
    source = '''
def ask(session, table):
    """Read from clips where there are some: select path from clips."""
    session.rows("select 1 " "from clips")
    return session.rows(f"select {table} from label_events where batch_id = {table}")
'''
    assert [line for line, _ in find_sql(source)] == [4, 5]


def test_sql_names_tables_in_stores_alone():
    """Also what `make lint` asks; every module outside is looked at."""
    files = outside_stores()
    assert len(files) > 100 and not [f for f in files if f.parent.name == "stores"]
    for file in files:
        assert list(find_sql(file.read_text(encoding="utf-8"))) == [], file


PAGE = """# A map
- `labelkit/errors.py` is no tool here

## Tools on the way
- `labelkit/errors.py`: one family of errors, read once.
- `labelkit/audio/` decodes, and knows nothing of rounds;
  it spans two lines.

## Else
- `labelkit/runs` is no tool
"""


def test_tools_are_read_from_the_page():
    tools = read_tools(PAGE)
    assert tools == ["errors.py", "audio"]
    assert is_tool("audio/io.py", tools) and is_tool("errors.py", tools)
    assert not is_tool("audios.py", tools) and not is_tool("runs/verify.py", tools)
    for wrong in ("- `labelkit/nowhere.py`: a reason long enough", "- `labelkit/errors.py` no"):
        with pytest.raises(ValueError, match=r"no such module|without a name"):
            read_tools(f"## Tools on the way\n{wrong}\n")
