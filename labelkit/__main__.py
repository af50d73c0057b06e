"""Allow ``python -m labelkit``."""

from labelkit.cli import cli

cli(prog_name="labelkit")
