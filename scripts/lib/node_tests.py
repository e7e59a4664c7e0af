#!/usr/bin/env python3
"""Runs files of node:test, so many at a time: node_tests.py AT_ONCE SECONDS FOLDER FILE...

Each file has a process of its own and so many seconds. Most of them wait for something for most of
their time, so two side by side take little more than half. What one says comes as a whole when it
has ended, so that two of them do not mix, then how long it took; its log stays in FOLDER. The last
lines are the slowest files and those that failed. The exit status says whether any did.
"""
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time

SLOWEST = 10
# Beyond the signal that ends it: a test may have servers to stop.
KILL_AFTER = "--kill-after=10"


def log_name(path):
    return path.removeprefix("tests/integration/").replace("/", "-").removesuffix(".test.mjs")


async def run_file(path, seconds, folder):
    """(path, seconds it took, status): timeout(1) ends the whole group, servers included."""
    log, begun = os.path.join(folder, log_name(path) + ".log"), time.monotonic()
    command = ["timeout", KILL_AFTER, str(seconds)]
    command += ["node", "--test", "--test-reporter=spec", path]
    with open(log, "wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
        try:
            status = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
    took = time.monotonic() - begun
    with open(log, errors="replace") as text:
        shutil.copyfileobj(text, sys.stdout)
    print(f"{path}: {took:.1f} s" + (f", FAILED ({status})" if status else ""), flush=True)
    return path, took, status


async def run_all(at_once, seconds, folder, files):
    rest, done = iter(files), []

    async def work():
        for path in rest:
            done.append(await run_file(path, seconds, folder))

    workers = asyncio.gather(*(work() for _ in range(at_once)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, workers.cancel)
    await workers
    return done


def main(at_once, seconds, folder, *files):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    begun = time.monotonic()
    done = asyncio.run(run_all(int(at_once), int(seconds), folder, files))
    print(f"\n{len(done)} files in {time.monotonic() - begun:.0f} s, the slowest:")
    for path, took, _ in sorted(done, key=lambda each: -each[1])[:SLOWEST]:
        print(f"{took:7.1f} s  {path}")
    failed = sorted(path for path, _, status in done if status)
    for path in failed:
        print(f" FAILED    {path}")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
