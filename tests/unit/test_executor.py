"""Series and processes give the same, and a failing item costs only itself."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from labelkit.errors import InvalidInput, WorkerDied
from labelkit.executor import Executor
from tests.support.paths import ROOT
from tests.support.processes import wait_for_end


def work(item):
    if item == 3:
        raise ValueError("three")
    return item * item


def die(item):
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_a_result(workers):
    with Executor(workers) as executor:
        results = {result.item: result for result in executor.map(work, range(8))}
    assert {item: r.value for item, r in results.items() if r.error is None} == {
        k: k * k for k in range(8) if k != 3
    }
    with pytest.raises(ValueError, match="three"):
        results[3].get()


def test_a_dying_worker_takes_only_its_item():
    with Executor(2) as executor:
        results = {result.item: result for result in executor.map(die, range(12))}
        assert sorted(results) == list(range(12))
        assert isinstance(results[5].error, WorkerDied) and "5" in str(results[5].error)
        assert [item for item, r in results.items() if r.error] == [5]
        assert [r.get() for r in executor.map(die, [1])] == [1]


def test_what_cannot_be_sent_is_an_error():
    with Executor(2) as executor:
        (result,) = executor.map(lambda item: item, [1])
    assert result.error is not None


PARENT = """
import os, sys, time
from labelkit.executor import Executor
from tests.unit.test_executor import report_and_sleep
if __name__ == "__main__":
    with Executor(2) as executor:
        list(executor.map(report_and_sleep, [sys.argv[1]] * 2))
"""


def report_and_sleep(folder):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(60)


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    pids = tmp_path / "pids"
    pids.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), str(pids)], env=os.environ | {"PYTHONPATH": os.getcwd()}
    )
    while len(list(pids.iterdir())) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    workers = [int(p.name) for p in pids.iterdir()]
    # Workers must not outlive their parent.
    wait_for_end(workers)


def report_and_die(job):
    folder, dies = job
    open(os.path.join(folder, str(os.getpid())), "w").close()
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("dies", [False, True])
def test_an_error_ends_the_workers_and_no_other_child(tmp_path, dies):
    """Those of a pool that broke are gone as well."""
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    child.start()
    try:
        with pytest.raises(RuntimeError, match="enough"), Executor(2) as executor:
            for result in executor.map(
                report_and_die, [(tmp_path, dies), *[(tmp_path, False)] * 5]
            ):
                if result.error is None:
                    raise RuntimeError("enough")
        workers = [int(p.name) for p in tmp_path.iterdir()]
        assert len(workers) >= 2
        wait_for_end(workers)
        assert child.is_alive()
    finally:
        child.kill()
        child.join()


def many_numbers(item):
    return [0.0] * 300_000


@pytest.mark.slow
def test_a_caller_that_fails_amid_large_results_does_not_wait(tmp_path):
    """A worker that is ended within a message must not be waited for."""
    script = tmp_path / "fails.py"
    script.write_text(
        "from labelkit.executor import Executor\n"
        "from tests.unit.test_executor import many_numbers\n"
        "if __name__ == '__main__':\n"
        "    with Executor(2) as executor:\n"
        "        for result in executor.map(many_numbers, range(50)):\n"
        "            raise SystemExit(7)\n"
    )
    assert run_script(script) == 7


@pytest.mark.slow
def test_a_forked_child_does_not_make_a_failing_caller_wait(tmp_path):
    """It has the pipes of the workers open, whose half messages nobody will finish."""
    script = tmp_path / "forks.py"
    script.write_text(
        "import multiprocessing, time\n"
        "from labelkit.executor import Executor\n"
        "from tests.unit.test_executor import many_numbers\n"
        "if __name__ == '__main__':\n"
        "    fork = multiprocessing.get_context('fork')\n"
        "    try:\n"
        "        with Executor(2) as executor:\n"
        "            for result in executor.map(many_numbers, range(50)):\n"
        "                child = fork.Process(target=time.sleep, args=(600,), daemon=True)\n"
        "                child.start()\n"
        "                raise RuntimeError\n"
        "    except RuntimeError:\n"
        "        raise SystemExit(7 if child.is_alive() else 8)\n"
    )
    assert run_script(script) == 7


def run_script(script):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(script)], env=env, timeout=120, check=False
    ).returncode


SCRIPT = """
import sys
from labelkit.executor import Executor
print("once")
with Executor(2) as executor:
    print(sorted(result.get() for result in executor.map(abs, [-1, 2, -3])))
print(sys.modules["__main__"].__file__)
"""


@pytest.mark.parametrize("how", ["file", "module"])
def test_a_script_without_a_guard_is_not_run_by_its_workers(tmp_path, how):
    script = tmp_path / "own_script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script] if how == "file" else [sys.executable, "-m", "own_script"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert done.stdout.split("\n")[:2] == ["once", "[1, 2, 3]"]
    assert done.stdout.split("\n")[2].endswith("own_script.py")


def test_a_function_of_the_script_is_found_by_its_workers(tmp_path):
    script = tmp_path / "own_script.py"
    script.write_text(
        "from labelkit.executor import Executor\n"
        "def double(x):\n    return 2 * x\n"
        "if __name__ == '__main__':\n"
        "    with Executor(2) as executor:\n"
        "        print(sorted(result.get() for result in executor.map(double, [1, 2])))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[2, 4]\n"


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_are_one_or_more(workers):
    with pytest.raises(InvalidInput, match="workers must be at least 1"):
        Executor(workers)
