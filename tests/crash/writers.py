"""Eight processes that write one store at once, two that read it, and how fairly they wait."""

import multiprocessing
import time
from dataclasses import dataclass

from labelkit.records import Batch, LabelEvent
from labelkit.stores.labels import LabelStore
from tests.crash.campaign import make_store
from tests.crash.workers import STORE

N_CLIPS = 200


@dataclass
class Traffic:
    """What every process did: batches or reads, and the longest wait of any in seconds."""

    seconds: float
    batches: list[int]
    reads: list[int]
    longest_write_s: float
    longest_read_s: float

    def __str__(self):
        return (
            f"{len(self.batches)} writers, {len(self.reads)} readers, {self.seconds:.0f} s: "
            f"{sum(self.batches)} batches ({sum(self.batches) / self.seconds:.1f}/s), "
            f"{min(self.batches)} to {max(self.batches)} a writer, longest wait "
            f"{self.longest_write_s:.2f} s; {sum(self.reads)} reads "
            f"({sum(self.reads) / self.seconds:.1f}/s), {min(self.reads)} to {max(self.reads)} "
            f"a reader, longest wait {self.longest_read_s:.2f} s"
        )


def write(path, number, seconds, start, queue):
    """Open, append one batch, close; again and again."""
    store, count, longest = LabelStore(path, timeout_s=60), 0, 0.0
    start.wait()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        with store.write() as session:
            longest = max(longest, time.monotonic() - began)
            events = [
                LabelEvent(
                    clip_id=(7 * count + k) % N_CLIPS,
                    state="verified",
                    labels=[number],
                    source=f"writer{number}",
                )
                for k in range(1 + count % 5)
            ]
            batch = Batch(
                key=f"{number}/{count}", kind="test", actor="t", by_person=True, events=events
            )
            assert not session.append(batch).repeated
        count += 1
    queue.put(("write", number, count, longest))


def read(path, number, seconds, start, queue):
    """Count batches again and again; what one reader saw never shrinks."""
    store, count, longest, seen = LabelStore(path, timeout_s=60), 0, 0.0, 0
    start.wait()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        with store.read() as session:
            longest = max(longest, time.monotonic() - began)
            [(batches, last)] = session.rows("select count(*), max(batch_id) from batches")
            assert batches == last >= seen
            seen = last
        count += 1
        time.sleep(0.02)
    queue.put(("read", number, count, longest))


def run_writers(folder, seconds, *, n_writers=8, n_readers=2):
    """Let them all go at one new store for some seconds.

    Returns:
        The store, and what every process did.
    """
    make_store(folder, N_CLIPS)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.crash.writers"])
    queue, path = context.Queue(), folder / STORE
    # The clock of each begins when all of them are there.
    start = context.Barrier(n_writers + n_readers)
    processes = [
        context.Process(target=target, args=(path, number, seconds, start, queue))
        for target, n in ((write, n_writers), (read, n_readers))
        for number in range(n)
    ]
    for process in processes:
        process.start()
    said = [queue.get(timeout=seconds + 120) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found = {
        kind: [rest for name, _, *rest in sorted(said) if name == kind]
        for kind in ("write", "read")
    }
    return LabelStore(path), Traffic(
        seconds=seconds,
        batches=[count for count, _ in found["write"]],
        reads=[count for count, _ in found["read"]],
        longest_write_s=max(wait for _, wait in found["write"]),
        longest_read_s=max(wait for _, wait in found["read"]),
    )


def find_lost(store, traffic):
    """What is missing or there twice, in words; nothing in a sound store."""
    with store.read() as session:
        held = session.rows(
            "select b.batch_key, (select count(*) from label_events e "
            "where e.batch_id = b.batch_id), b.batch_id from batches b where batch_id > 1"
        )
        [ids] = session.rows(
            "select count(*), count(distinct event_id), max(event_id) + 1 from label_events"
        )
    wanted = {
        f"{number}/{k}": 1 + k % 5
        for number, count in enumerate(traffic.batches)
        for k in range(count)
    }
    faults = []
    if {key: n for key, n, _ in held} != wanted or len(held) != len(wanted):
        faults.append(f"{len(held)} batches of {len(wanted)}, or others than were written")
    if sorted(batch for *_, batch in held) != list(range(2, len(wanted) + 2)):
        faults.append("batch ids have gaps")
    if len(set(ids)) != 1 or ids[0] != N_CLIPS + sum(wanted.values()):
        faults.append(f"event ids have gaps or doubles: {ids}")
    return faults
