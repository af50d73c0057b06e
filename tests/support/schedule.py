"""Which worker runs what."""

from xdist.scheduler import LoadScopeScheduling

# All of these talk to the one server, which answers one at a time.
SERVED = ("tests/browser/", "tests/integration/label_studio/", "tests/integration/review/")
# No test of these shares a costly set-up with another one.
SPREAD = ("tests/integration/runs/test_systems.py", "tests/integration/stores/test_hostile.py")
# Begun first, the longest before the others, so that no worker ends with one of them alone.
FIRST = (
    *SERVED,
    "tests/integration/runs/",
    "tests/integration/cleaning/test_rehearsal.py",
    "tests/integration/test_demo.py",
    "tests/integration/labels/",
    "tests/integration/stores/",
    "tests/integration/",
)


def group(nodeid):
    """Tests of one group run on one worker, one after the other: mostly those of a module."""
    if nodeid.startswith(SERVED):
        return "label-studio"
    return nodeid if nodeid.startswith(SPREAD) else nodeid.partition("::")[0]


def rank(item):
    """What to sort by so that the longest begin."""
    return next((k for k, start in enumerate(FIRST) if item.nodeid.startswith(start)), len(FIRST))


class Schedule(LoadScopeScheduling):
    """Hands out groups in the order of collection."""

    def __init__(self, config, log=None):
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid):
        return group(nodeid)
