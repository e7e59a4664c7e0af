#!/usr/bin/env python3
"""Wraps comment lines that are longer than 100 columns, in place: wrap_comments.py FILE…

clang-format is told to leave comments alone, since it would run tables and diagrams together. This
touches only what is too long: the words past the edge move to the next line when that one goes on
with the same paragraph, else to a line of their own, hanging under the text of a table row. A ruler
(/* --- name --- */) loses dashes.
"""
import pathlib
import re
import sys

COLUMNS = 100
# A line this short ends its paragraph: nothing is pushed in front of what follows.
FULL = 80
OPENING = re.compile(r"^(?P<before>.*?)/\*(?!.*\*/.*\S)")
INNER = re.compile(r"^(?P<prefix>\s*\* ?\s*)(?P<text>.*)$")


def shorten_ruler(line):
    match = re.match(r"^(.*?[-=]{4,}) \*/$", line)
    if not match:
        return line
    return match.group(1)[: COLUMNS - 3].rstrip() + " */"


def hang(prefix, text):
    """The prefix of a continuation: a table row hangs under its last column."""
    column = 0
    for gap in re.finditer(r"\S {2,}(?=\S)", text):
        column = gap.end()
    if column > COLUMNS // 2:
        column = 0
    return prefix + " " * column


def split(prefix, text):
    """(what fits, the rest); the rest is empty when nothing can move."""
    cut = (prefix + text).rfind(" ", 0, COLUMNS + 1)
    if cut <= len(prefix):
        return text, ""
    whole = prefix + text
    if whole[cut:].strip() == "*/":
        # The end does not stand alone.
        cut = whole.rfind(" ", len(prefix), cut)
    return whole[len(prefix) : cut].rstrip(), whole[cut:].strip()


def continues(line, prefix, was_full):
    match = INNER.match(line)
    return (
        was_full
        and match
        and match.group("prefix") == prefix
        and match.group("text") not in ("", "/")
        and not re.search(r"\S {2,}\S", match.group("text"))
        and not re.match(r"([-*•]|[0-9]{1,2}[.)]) ", match.group("text"))
    )


def wrap_block(lines, first_prefix, prefix):
    """lines: one comment, from the line of its opening to the one with its end."""
    out, index = [], 0
    lines = list(lines)
    while index < len(lines):
        line = lines[index]
        index += 1
        if len(line) <= COLUMNS:
            out.append(line)
            continue
        if line == lines[0] and index == 1:
            start, follow = first_prefix, prefix
        else:
            match = INNER.match(line)
            start = match.group("prefix") if match else ""
            follow = start
        text = line[len(start) :]
        kept, rest = split(start, text)
        if not start or not rest:
            out.append(line)
            continue
        out.append((start + kept).rstrip())
        follow = hang(follow, kept)
        if index < len(lines) and continues(lines[index], follow, len(line) > FULL):
            lines[index] = follow + rest + " " + lines[index][len(follow) :]
        else:
            lines.insert(index, follow + rest)
    return out


def wrap(text):
    lines, out, index = text.split("\n"), [], 0
    while index < len(lines):
        line = lines[index]
        if len(line) > COLUMNS:
            line = lines[index] = shorten_ruler(line)
        match = OPENING.match(line)
        if not match or line.rstrip().endswith("\\"):
            out.append(line)
            index += 1
            continue
        end = index
        while "*/" not in lines[end] and end + 1 < len(lines):
            end += 1
        column = len(match.group("before"))
        after = re.match(r"/\*+\s*", line[column:]).group()
        first_prefix = line[:column] + after
        prefix = " " * column + " * "
        out += wrap_block(lines[index : end + 1], first_prefix, prefix)
        index = end + 1
    return "\n".join(out)


def main(names):
    for name in names:
        path = pathlib.Path(name)
        text = path.read_text()
        wrapped = wrap(text)
        if wrapped != text:
            path.write_text(wrapped)
            print(f"wrapped {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
