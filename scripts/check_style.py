#!/usr/bin/env python3
"""House rules that no other tool knows: banned functions, the length of lines and functions in C,
and of files. Works on the current directory, on what git tracks or would track, or on the files
named.
"""
import pathlib
import re
import subprocess
import sys

FILE_LINES = 800
FUNCTION_LINES = 70
LINE_COLUMNS = 100

BANNED = {
    **dict.fromkeys(
        ["strcpy", "strcat", "stpcpy", "strncat"],
        "unbounded: use snprintf or struct bk_buffer",
    ),
    **dict.fromkeys(["sprintf", "vsprintf", "gets"], "unbounded: use snprintf or bk_buffer"),
    "strtok": "keeps hidden state: walk a struct bk_slice",
    "atoi": "cannot fail: use bk_slice's number functions or strtol",
    "gmtime": "shares one result between threads: use bakend/clock.h",
    "localtime": "shares one result between threads: use bakend/clock.h",
}
# Only src/base may call these; tests are free to.
HEAP = dict.fromkeys(
    ["malloc", "calloc", "realloc", "free", "strdup", "strndup", "asprintf", "vasprintf"],
    "only src/base touches the heap: use bakend/alloc.h",
)
# Comments, strings and character constants.
OPAQUE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
CALL = re.compile(r"(?<![\w.>])(\w+)\s*\(")


def without_opaque(text):
    """The text with comments and constants blanked out, line for line."""
    return OPAQUE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def check_calls(path, code):
    rules = dict(BANNED)
    if path.parts[0] in ("src", "include") and path.parts[:2] != ("src", "base"):
        rules |= HEAP
    for number, line in enumerate(code.splitlines(), 1):
        for name in CALL.findall(line):
            if name in rules:
                yield f"{path}:{number}: {name}: {rules[name]}"


def functions(code):
    """(name, first line, line count) of each function definition."""
    depth, head, start, name = 0, "", 0, None
    is_macro = False
    for number, line in enumerate(code.splitlines(), 1):
        is_directive = is_macro or line.lstrip().startswith("#")
        is_macro = is_directive and line.endswith("\\")
        if is_directive:
            continue
        for character in line:
            if depth == 0 and character in ";}":
                head = ""
            elif depth == 0 and character == "{":
                match = re.search(r"(\w+)\s*\(", head)
                name = match.group(1) if match and "=" not in head else None
            elif depth == 0:
                if not head.strip() and not character.isspace():
                    start = number
                head += character
            if character == "{":
                depth += 1
            elif character == "}":
                depth -= 1
                if depth == 0 and name:
                    yield name, start, number - start + 1
                if depth == 0:
                    name, head = None, ""
        head += " "


def check_lengths(path, text, code):
    lines = text.splitlines()
    if len(lines) > FILE_LINES:
        yield f"{path}: {len(lines)} lines, at most {FILE_LINES}: split it by what readers look for"
    if path.suffix in (".c", ".h"):
        for number, line in enumerate(lines, 1):
            if len(line) > LINE_COLUMNS:
                yield f"{path}:{number}: {len(line)} columns, at most {LINE_COLUMNS}"
        for name, first, count in functions(code):
            if count > FUNCTION_LINES:
                yield f"{path}:{first}: {name} has {count} lines, at most {FUNCTION_LINES}"


def tracked_files():
    patterns = [f"*.{ending}" for ending in ("c", "h", "mjs", "js", "py")]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, check=True, text=True, capture_output=True).stdout.split("\n")
    return [pathlib.Path(name) for name in sorted(set(names)) if name]


def check(path):
    text = path.read_text(errors="replace")
    is_c = path.suffix in (".c", ".h")
    code = without_opaque(text) if is_c else ""
    if is_c:
        yield from check_calls(path, code)
    yield from check_lengths(path, text, code)


def main(arguments):
    paths = [pathlib.Path(name) for name in arguments] or tracked_files()
    errors = [error for path in paths if path.exists() for error in check(path)]
    print("\n".join(errors) or "ok")
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
