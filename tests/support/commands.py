"""Commands called, and what they leave in the store."""

from click.testing import CliRunner

from labelkit.cli import cli


def call(project, *args):
    return CliRunner().invoke(cli, ["-C", str(project.root), *map(str, args)])


def rows(project, sql, values=()):
    with project.store.read() as session:
        return session.rows(sql, values)


def snapshot(project):
    return rows(project, "from labels_now order by clip_id"), rows(project, "from batches")


def refused(done, *messages, code=2):
    """One clear line on stderr, nothing on stdout."""
    assert done.exit_code == code and done.stdout == "", done.output
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr
    for message in messages:
        assert message in done.stderr
