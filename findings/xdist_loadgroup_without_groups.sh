#!/usr/bin/env bash
# pytest-xdist 3.8.0 with pytest 9.2.0: `--dist loadgroup` deals tests of one group to several workers.
#
# Guess:     tests marked xdist_group("server") run on one worker, one after the other, as the
#            documentation of --dist loadgroup says; so one server may serve them all.
# Behaviour: with pytest 8.4.2 they do. With pytest 9.2.0 the same xdist deals them test by test to
#            both workers, without an error and without a warning: the group never reaches the id by
#            which the scheduler deals (worker side: the id of an item is changed at collection, and
#            that change has no effect any more).
# Output seen:      8.4.2: 12 gw0 (or gw1); 9.2.0: 6 gw0 and 6 gw1.
# So:        what must be alone is not; tests that share a server or a file fail now and then. A
#            scheduler of one's own, by the hook pytest_xdist_make_scheduler and a subclass of
#            LoadScopeScheduling, groups by whatever the id says, in both versions.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir tests
for k in 1 2 3; do
  cat > "tests/test_$k.py" <<'PY'
import os
import time

import pytest


@pytest.mark.xdist_group("server")
@pytest.mark.parametrize("n", range(4))
def test_served(n):
    time.sleep(0.2)
    print("worker", os.environ["PYTEST_XDIST_WORKER"])
PY
done

# Tests of the one group, by the worker that ran them: two columns, number and worker.
deal() {
  python3 -m venv "v$1"
  "v$1/bin/pip" --quiet --disable-pip-version-check install "pytest==$1" pytest-xdist==3.8.0 2>/dev/null
  "v$1/bin/pytest" -p no:cacheprovider -n 2 --dist loadgroup -rP tests 2>&1 |
    grep '^worker' | sort | uniq -c | awk '{print $1, $3}'
}

before=$(deal 8.4.2)
now=$(deal 9.2.0)
{
  printf 'pytest 8.4.2, pytest-xdist 3.8.0, twelve tests of one group (number, worker):\n%s\n' "$before"
  printf 'pytest 9.2.0, pytest-xdist 3.8.0, twelve tests of one group (number, worker):\n%s\n' "$now"
} | tee seen
if [ "$(wc -l <<< "$before")" != 1 ] || [ "$(wc -l <<< "$now")" != 2 ]; then
  echo "this has changed: look again"
  exit 1
fi
