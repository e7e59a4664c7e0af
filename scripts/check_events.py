#!/usr/bin/env python3
"""Fails when the events that modules declare and the messages of proto/ disagree. Works on the current
directory.

Every line of a module's table of events (a struct bk_event_declaration) names a message, every message that
stands for an event is named by a line, and every type that the code emits by a literal is declared.
"""
import pathlib
import re
import sys

DECLARATION = re.compile(r'\{\s*"((?:[\w]+|\*)\.[\w.*]+)"\s*,\s*(?:true|false)\s*,\s*"(\w+)"', re.S)
EMITTED = re.compile(
    r'\.type\s*=\s*BK_SLICE\("(\w+\.\w+)"\)|event_type\s*=\s*BK_SLICE\("(\w+\.\w+)"\)'
)
MESSAGE = re.compile(r"^message (\w+)", re.M)
# Messages that are parts of others, or the envelope.
PARTS = {"Event", "Collection", "CollectionField", "Tenant"}


def matches(pattern, event_type):
    return re.fullmatch(pattern.replace(".", r"\.").replace("*", r"\w+"), event_type) is not None


def main():
    declared, emitted = {}, {}
    for path in sorted(pathlib.Path("src").rglob("*.c")):
        text = path.read_text()
        if "struct bk_event_declaration" in text:
            for event_type, message in DECLARATION.findall(text):
                declared[event_type] = message
        for pair in EMITTED.findall(text):
            emitted["".join(pair)] = path
    messages = set()
    for path in pathlib.Path("proto").rglob("*.proto"):
        messages |= set(MESSAGE.findall(path.read_text()))
    errors = []
    for event_type, message in sorted(declared.items()):
        if message not in messages:
            errors.append(f"{event_type}: its message {message} is not in proto/")
    for message in sorted(messages - PARTS - set(declared.values())):
        errors.append(f"proto/: no module declares an event with the message {message}")
    for event_type, path in sorted(emitted.items()):
        if not any(matches(pattern, event_type) for pattern in declared):
            errors.append(f"{path}: {event_type} is emitted and not declared")
    print("\n".join(errors) or "ok")
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
