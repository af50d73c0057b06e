"""What workers can load of tests without all that tests need."""

import os

from labelkit.recordings.features import Extractor


class Dying(Extractor):
    """Takes the process with it that reads one recording."""

    def __call__(self, path):
        if path == "05.wav":
            os._exit(9)
        return super().__call__(path)
