"""A review on a real server."""

import shutil

import pytest

from labelkit.config import ReviewSpec
from labelkit.project import open_project
from labelkit.review.setup import set_up


@pytest.fixture
def project(label_studio, verified_project, tmp_path, monkeypatch):
    """A copy of the trained project, ready for a review on the server."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    shutil.copytree(verified_project[0].root, tmp_path / "project")
    return open_project(tmp_path / "project")


@pytest.fixture
def start(project, label_studio, request):
    """Sets the review up; settings as keyword arguments."""

    def begin(**settings):
        settings = {"document_root": str(label_studio.documents), **settings}
        title = request.node.name[:45]
        return set_up(project, label_studio.url, title, ReviewSpec(**settings))[0]

    return begin
