"""What setup.cfg says of the distribution."""

import re
from configparser import ConfigParser

from tests.support.paths import ROOT


def read():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def distribution():
    return read()["metadata"]["name"]


def extras():
    """Names of the packages each extra brings, and under an empty name of those always there."""
    config = read()
    lines = {**config["options.extras_require"], "": config["options"]["install_requires"]}
    return {
        extra: {re.split("[<>=]", line)[0] for line in text.split()}
        for extra, text in lines.items()
    }
