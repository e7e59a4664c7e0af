#!/usr/bin/env python3
"""Runs clang-tidy-14 over the sources of a build folder, and skips what has not changed.

  tidy.py BUILD [--jobs N] [--analyze] [FILE…]

--analyze runs the path-sensitive analyzer over src in place of the checks of .clang-tidy.
A clean result is remembered in BUILD/tidy under a hash of everything that could alter it: the
source, the headers of its folder and of include/bakend, the checks, and the compile command.
"""
import argparse
import concurrent.futures
import hashlib
import json
import pathlib
import subprocess
import sys

TIDY = "clang-tidy-14"
# Flags of gcc that clang does not know or need.
IGNORE = ["--extra-arg=-Wno-unknown-warning-option"]
ANALYZE = ["--checks=-*,clang-analyzer-core.*,clang-analyzer-deadcode.*,clang-analyzer-unix.*"]


def fingerprint(entry, shared):
    digest = hashlib.sha256(shared)
    path = pathlib.Path(entry["file"]).relative_to(pathlib.Path.cwd())
    digest.update(entry.get("command", "").encode())
    # A test includes private headers of the folder it mirrors: tests/unit/base/… of src/base.
    parts = path.parts[2:] if path.parts[0] == "tests" else path.parts[1:]
    for related in [path, *sorted(pathlib.Path("src", parts[0]).rglob("*.h"))]:
        digest.update(related.read_bytes())
    return digest.hexdigest()


def shared_inputs(options):
    digest = hashlib.sha256(" ".join(options).encode())
    headers = [*pathlib.Path("include").rglob("*.h"), *pathlib.Path("tests/support").rglob("*.h")]
    for path in [pathlib.Path(".clang-tidy"), *sorted(headers)]:
        digest.update(path.read_bytes())
    return digest.digest()


def run(entry, build, options, mark):
    command = [TIDY, "--quiet", "-p", build, *IGNORE, *options, entry["file"]]
    result = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if result.returncode == 0:
        mark.touch()
        return True
    # Standard error holds the count of suppressed warnings, and what stops clang-tidy itself.
    print(result.stdout or result.stderr, end="", flush=True)
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build")
    parser.add_argument("files", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--analyze", action="store_true")
    arguments = parser.parse_args()

    options, folders = (ANALYZE, ["src"]) if arguments.analyze else ([], ["src", "tests"])
    root = pathlib.Path.cwd()
    wanted = {str((root / name).resolve()) for name in arguments.files}
    entries = json.loads(pathlib.Path(arguments.build, "compile_commands.json").read_text())
    entries = {
        entry["file"]: entry
        for entry in entries
        if entry["file"].startswith(tuple(f"{root}/{folder}/" for folder in folders))
        and (not wanted or entry["file"] in wanted)
    }
    marks = pathlib.Path(arguments.build, "tidy")
    marks.mkdir(exist_ok=True)
    shared = shared_inputs(options)
    work = [(entry, marks / fingerprint(entry, shared)) for entry in entries.values()]
    work = [(entry, mark) for entry, mark in work if not mark.exists()]
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        results = list(
            pool.map(lambda item: run(item[0], arguments.build, options, item[1]), work)
        )
    bad = results.count(False)
    print(f"{len(entries)} files, {len(work)} of them changed, {bad} with findings")
    return not all(results)


if __name__ == "__main__":
    sys.exit(main())
