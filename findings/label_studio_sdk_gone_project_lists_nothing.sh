#!/usr/bin/env bash
# label-studio-sdk 2.1.2: the tasks of a project that is gone are an empty list, not an error.
#
# Guess:     `client.tasks.list(project=7)` raises NotFoundError where the server answers 404, as
#            `client.projects.get(7)` does.
# Behaviour: it ends like a list of no tasks. The pager takes a 404 for the page after the last one,
#            on the first page, too.
# Seen:      get: NotFoundError; list: 0 tasks and no error.
# So:        what compares tasks with what it knows (a synchronisation) finds all of them deleted.
#            Ask for the project first, or page with plain HTTP.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv v
v/bin/pip --quiet --disable-pip-version-check install label-studio-sdk==2.1.2 2>/dev/null

v/bin/python - <<'PY'
from importlib.metadata import version

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.errors import NotFoundError

asked = []


def answer(request):
    asked.append(f"{request.method} {request.url.path}")
    return httpx.Response(404, json={"detail": "No Project matches the given query."})


http = httpx.Client(transport=httpx.MockTransport(answer))
# A token of the old kind: nothing is asked for it.
client = LabelStudio(base_url="http://localhost:1", api_key="0" * 40, httpx_client=http)
try:
    client.projects.get(7)
    got = "no error"
except NotFoundError:
    got = "NotFoundError"
tasks = list(client.tasks.list(project=7))
print(f"label-studio-sdk {version('label-studio-sdk')}, a server that answers 404 to all:")
print(*asked, sep="\n")
print(f"projects.get: {got}; tasks.list: {len(tasks)} tasks and no error")
assert got == "NotFoundError" and tasks == [], "this has changed: look again"
PY
echo "a project that is gone lists no tasks, without an error"
