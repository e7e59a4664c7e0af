#!/usr/bin/env python3
"""Prints how many tests passed and failed according to logs: count_tests.py ctest|node LOG...

  ctest   Testing/Temporary/LastTest.log: the cases that cmocka and unittest report inside each
          executable; one that reports none, or that dies before its report, counts as one test
  node    the summary of `node --test` with the spec reporter; without one, the runner itself was
          stopped, which is one failure
"""
import re
import sys


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


def count(kind, path):
    with open(path, errors="replace") as log:
        text = log.read()
    return {"ctest": count_ctest, "node": count_node}[kind](text)


def main(kind, *paths):
    counts = [count(kind, path) for path in paths]
    print(sum(passed for passed, _ in counts), sum(failed for _, failed in counts))


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("ctest", "node"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
