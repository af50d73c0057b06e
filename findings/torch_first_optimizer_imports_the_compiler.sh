#!/usr/bin/env bash
# torch 2.13.0: the first optimizer of a process imports the compiler, used or not.
#
# Guess:     `import torch` is the price of a process that trains; making an optimizer of two
#            parameters is then a matter of microseconds.
# Behaviour: the first `torch.optim.SGD(...)` (any optimizer, on the CPU, nothing compiled) imports
#            torch._dynamo and what it needs: hundreds of modules. The second one takes no time.
# Output seen:      824 modules more after the 1,115 of `import torch`; the first took about a hundred
#            thousand times as long as the second, seconds rather than microseconds.
# So:        a program that starts a process for each fold or each training pays it each time, as
#            much as a small training takes. Several trainings in one process, or workers that
#            live on, pay once.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
failed=0
python3 -m venv v
v/bin/pip --quiet --disable-pip-version-check install torch==2.13.0 numpy==2.2.6 2>/dev/null

v/bin/python - <<'PY' | tee seen || failed=$?
import sys
import time

import torch

net = torch.nn.Linear(4, 2)
had = len(sys.modules)
assert "torch._dynamo" not in sys.modules, "imported with torch already: look again"


def make_s():
    begun = time.perf_counter()
    torch.optim.SGD(net.parameters(), lr=0.1)
    return time.perf_counter() - begun


first = make_s()
more = len(sys.modules) - had
second = min(make_s() for _ in range(5))
print(f"torch {torch.__version__}: the first optimizer imports {more} modules after {had} of torch")
print(f"first / second optimizer: {first / second:,.0f} times as long")
assert "torch._dynamo" in sys.modules and more > 300 and first > 100 * second, "this has changed"
PY
if [ "$failed" != 0 ]; then
  echo "this has changed: look again"
  exit 1
fi
