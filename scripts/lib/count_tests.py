#!/usr/bin/env python3
"""How many tests passed and failed according to logs: count_tests.py ctest|node FAILURES LOG...

It prints the two numbers, and adds to the file FAILURES what failed and why.

  ctest   Testing/Temporary/LastTest.log: the cases that cmocka and unittest report inside each
          executable; one that reports none, or that dies before its report, counts as one test
  node    the summary of `node --test` with the spec reporter; without one, the runner itself was
          stopped, which is one failure
"""
import re
import sys


FAILURE_LINES = 40  # of a file's summary: enough for the first few of its tests


def count_block(block):
    """One executable: (passed, failed)."""
    succeeded = "\nTest Passed." in block
    passed = sum(map(int, re.findall(r"^\[  PASSED  \].*?(\d+) test\(s\)", block, re.M)))
    failed = sum(map(int, re.findall(r"^\[  FAILED  \].*?(\d+) test\(s\)", block, re.M)))
    for run, bad in re.findall(r"^Ran (\d+) tests? in .*\n\n(?:OK|FAILED \((.*)\))", block, re.M):
        wrong = sum(map(int, re.findall(r"(?:failures|errors)=(\d+)", bad)))
        passed, failed = passed + int(run) - wrong, failed + wrong
    if succeeded and passed == 0:
        passed = 1
    if not succeeded and failed == 0:
        failed = 1
    return passed, failed


def count_ctest(text):
    blocks = re.split(r"^\d+/\d+ Testing: ", text, flags=re.M)[1:]
    counts = [count_block(block) for block in blocks]
    return sum(passed for passed, _ in counts), sum(failed for _, failed in counts)


def count_node(text):
    text = re.sub(r"\x1b\[[\d;]*m", "", text)
    found = re.findall(r"^\S+ (pass|fail|cancelled) (\d+)$", text, re.M)
    if not found:
        return 0, 1
    passed = sum(int(number) for word, number in found if word == "pass")
    return passed, sum(int(number) for _, number in found) - passed


def failed_in_ctest(text):
    """The name of each executable that failed, and what cmocka or unittest says of it."""
    for block in re.split(r"^\d+/\d+ Testing: ", text, flags=re.M)[1:]:
        if "\nTest Passed." not in block:
            said = re.findall(r"^(?:\[  (?:FAILED|ERROR)  \]|FAIL:|ERROR:|==\d+==ERROR).*", block, re.M)
            yield "\n    ".join([block.split("\n", 1)[0], *said[:FAILURE_LINES]])


def failed_in_node(text):
    """The summary that node prints at the end; without one, the last lines."""
    if count_node(text)[1]:
        _, found, summary = text.partition("failing tests:\n")
        lines = [line for line in (summary if found else text).splitlines() if line.strip()]
        yield "\n    ".join(lines[:FAILURE_LINES] if found else lines[-FAILURE_LINES:])


COUNT = {"ctest": count_ctest, "node": count_node}
FAILED = {"ctest": failed_in_ctest, "node": failed_in_node}


def main(kind, failures, *paths):
    passed = failed = 0
    with open(failures, "a") as kept:
        for path in paths:
            with open(path, errors="replace") as log:
                text = log.read()
            counts = COUNT[kind](text)
            passed, failed = passed + counts[0], failed + counts[1]
            for each in FAILED[kind](text):
                kept.write(f"{path}: {each}\n")
    print(passed, failed)


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in COUNT:
        sys.exit(__doc__)
    main(*sys.argv[1:])
