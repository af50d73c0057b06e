#!/usr/bin/env bash
# label-studio-sdk 2.1.2: a project that goes while its tasks are listed ends the list in silence.
#
# Guess:     `for task in client.tasks.list(project=7)` raises where a later page answers 404, as it
#            does where the first one does: what is listed then is a part of the tasks.
# Behaviour: from the second page on a 404 is taken for the end of the list. A project that somebody
#            deletes meanwhile, or a proxy that loses its way, gives a short list and no error.
# Output seen:      404 on the first page: ApiError 404. 404 on the second of three: 100 tasks, no error.
# So:        what compares the list with what it knows (a synchronisation) takes the rest for deleted
#            tasks. Count before and after, or page with plain HTTP and look at the status.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv v
v/bin/pip --quiet --disable-pip-version-check install label-studio-sdk==2.1.2 2>/dev/null

v/bin/python - <<'PY' | tee seen
from importlib.metadata import version

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError


def list_tasks(pages):
    """How a list ends on a server that has so many pages of 100 tasks, then answers 404."""

    def answer(request):
        page = int(request.url.params.get("page", 1))
        if page > pages:
            return httpx.Response(404, json={"detail": "No Project matches the given query."})
        tasks = [{"id": 100 * (page - 1) + k, "data": {}, "project": 7} for k in range(100)]
        totals = {"total": 300, "total_annotations": 0, "total_predictions": 0}
        return httpx.Response(200, json={"tasks": tasks, **totals})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    # A token of the old kind: no other is asked for with it.
    client = LabelStudio(base_url="http://localhost:1", api_key="0" * 40, httpx_client=http)
    try:
        return f"{len(list(client.tasks.list(project=7, page_size=100)))} tasks, no error"
    except ApiError as error:
        return f"ApiError {error.status_code}"


print(f"label-studio-sdk {version('label-studio-sdk')}, 300 tasks in three pages")
found = {pages: list_tasks(pages) for pages in (0, 1, 2)}
for pages, how in found.items():
    print(f"404 after {pages} pages: {how}")
PY
cat > wanted <<'TXT'
label-studio-sdk 2.1.2, 300 tasks in three pages
404 after 0 pages: ApiError 404
404 after 1 pages: 100 tasks, no error
404 after 2 pages: 200 tasks, no error
TXT
if ! diff wanted seen; then
  echo "this has changed: look again"
  exit 1
fi
echo "seen: $(tr '\n' ';' < seen)"
