"""Runs in processes of their own: what they leave behind, at the end and in forked children."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from engine.echo import PATIENCE
from servers import LanguageModelServer

START = """
    import sys, os, threading, time
    import chatan
    from chatan import sample
    gen = chatan.generator("openai", "sk-test-key-123", base_url=sys.argv[1], concurrency=4)
    numbers = sample.from_dataset({"n": list(range(100_000))}, "n", order="sequential")
    ds = chatan.dataset({"n": numbers, "q": gen("Q {n}"), "len": lambda q: len(q)})
"""


def program(text: str, url: str = "http://127.0.0.1:9/v1") -> str:
    """Run a program to its end; what it printed. It must end well and say nothing else."""
    code = textwrap.dedent(START) + textwrap.dedent(text)
    # from 3.12 on Python warns of every fork beside a thread: the fork is the test's own
    forks = "ignore:This process:DeprecationWarning"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-W", forks, "-c", code, url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "run = ds.start(50)\nwhile run.progress.in_flight < 4: time.sleep(0.01)",
        # a stream of functions, results still coming
        """
        seen = []
        def work(n):
            seen.append(n)
            return sum(range(300))
        busy = chatan.dataset({"n": numbers, "f": work})
        run = busy.start(100_000)
        while len(seen) < 20_000: time.sleep(0.001)
        """,
        # async functions on a loop that is gone
        """
        import asyncio
        async def slow(n):
            await asyncio.sleep(3600)
        async def main():
            chatan.dataset({"n": numbers, "f": slow}).start(10)
            await asyncio.sleep(0.05)
        asyncio.run(main())
        """,
        "run = ds.start(50)\nrun.cancel()\nthreading.Thread(target=ds.start, args=(5,)).start()",
    ],
    ids=["calls", "functions", "coroutines", "cancelled"],
)
def test_a_process_ends_quickly_and_quietly_with_a_run_in_flight(
    llm_server: LanguageModelServer, text: str
) -> None:
    endpoint = llm_server.endpoint(lat=3_600_000)
    assert program(textwrap.dedent(text), endpoint.openai) == ""


def test_connections_are_closed_with_the_portal_and_tasks_and_threads_do_not_pile_up(
    llm_server: LanguageModelServer,
) -> None:
    said = program(
        """
        import asyncio, psutil, warnings
        from chatan.engine.portal import portal
        warnings.simplefilter("error", ResourceWarning)
        me = psutil.Process()

        def counts():
            def count():
                others = asyncio.all_tasks() - {asyncio.current_task()}
                return sum(not task.done() for task in others)
            end = time.monotonic() + 10
            while portal().call(count) and time.monotonic() < end:
                time.sleep(0.01)
            return portal().call(count), threading.active_count(), len(me.net_connections())

        async def later(n):
            return n
        for n in range(1, 26):
            columns = {"n": numbers, "q": gen("Q {n}"), "f": lambda n: n, "later": later}
            assert len(chatan.dataset(columns).generate(40)) == 40
            if n == 5:
                before = counts()
        after = counts()
        print(before[0], after[0], after[1] - before[1], after[2] - before[2], 0 < after[2] <= 4)
        portal().close()
        names = [thread.name for thread in threading.enumerate()]
        print(len(me.net_connections()), "chatan" in names)
        """,
        llm_server.endpoint(lat=1).openai,
    )
    first, last = said.splitlines()
    tasks_before, tasks_after, threads, connections, some = first.split()
    assert (tasks_before, tasks_after) == ("0", "0")
    assert int(threads) <= 2
    assert (connections, some) == ("0", "True")
    assert last == "0 False"


def test_forked_children_make_rows_too(llm_server: LanguageModelServer) -> None:
    endpoint = llm_server.endpoint(lat=5)
    said = program(
        """
        def child(number):
            status = 1
            pid = os.fork()
            if pid == 0:
                try:
                    df = ds.generate(20 + number)
                    assert df.notna().all(axis=None), df
                    assert ds.usage.calls == 20 + number, ds.usage
                    status = 0
                except BaseException as error:
                    print(repr(error), flush=True)
                finally:
                    os._exit(status)
            return os.waitpid(pid, 0)[1]

        print("fresh", child(1), flush=True)
        ds.generate(10)
        print("after a run", child(2), flush=True)
        run = ds.start(1000)
        while run.progress.calls < 5: time.sleep(0.001)
        pid = os.fork()
        if pid == 0:  # half-way through its parent's run
            try:
                df = ds.generate(500)
                assert df.notna().all(axis=None)
                print("during a run", 0, flush=True)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert len(run.result()) == 1000
        print("parent", len(ds.generate(1000)), ds.usage.calls)
        """,
        endpoint.openai,
    )
    assert said.splitlines() == ["fresh 0", "after a run 0", "during a run 0", "parent 1000 1000"]


def test_a_tight_loop_in_the_main_thread_leaves_a_run_going(
    llm_server: LanguageModelServer,
) -> None:
    endpoint = llm_server.endpoint(lat=100)
    said = program(
        """
        interval = sys.getswitchinterval()
        run = ds.start(40)
        turns = 0
        while not run.done():
            for _ in range(1000):
                turns += 1
        print(len(run.result()), turns > 1000, sys.getswitchinterval() == interval)
        """,
        endpoint.openai,
    )
    assert said.split() == ["40", "True", "True"]


def test_a_pool_of_workers_that_is_forked_while_a_run_goes_on(
    llm_server: LanguageModelServer,
) -> None:
    said = program(
        """
        import multiprocessing

        def work(number):
            own = chatan.dataset({"n": numbers, "q": gen("W {n}")}, seed=number)
            return len(own.generate(5))

        run = ds.start(1000)
        while run.progress.rows_done < 1: time.sleep(0.001)
        import pandas  # a fork in the middle of an import is Python's own trap
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(work, range(4)))
        print(len(run.result()))
        """,
        llm_server.endpoint(lat=5).openai,
    )
    assert said.splitlines() == ["[5, 5, 5, 5]", "1000"]
