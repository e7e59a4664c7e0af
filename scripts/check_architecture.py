#!/usr/bin/env python3
"""Fails when a dependency points the wrong way. Works on the current directory.

  includes        what each file of src and include/bakend includes, against scripts/tiers.txt
  symbols BUILD   what each folder exports and calls, so that an `extern` cannot cheat either
                  (BUILD: a build folder with plain objects, that is without LTO)

Third of the three locks is the compiler's include path, which scripts/cmake/tiers.cmake makes from the
same table.
"""
import pathlib
import re
import subprocess
import sys

TABLE = "scripts/tiers.txt"
# Both spellings, since <uv.h> and "uv.h" reach the same file.
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.M)
QUOTED = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
UNDEFINED = "Uwv"


class Table:
    """scripts/tiers.txt: who offers which header, who may use what, who owns which library."""

    def __init__(self, path):
        self.offers, self.uses, self.libraries = {}, {}, {}
        for number, line in enumerate(pathlib.Path(path).read_text().splitlines(), 1):
            words = line.split("#")[0].split()
            if not words:
                continue
            kind, name, *rest = words
            if kind == "offers":
                self.offers[name] = rest
            elif kind == "uses":
                self.uses[name] = rest
            elif kind == "library":
                self.libraries[name] = rest[1:]
            else:
                sys.exit(f"{path}:{number}: unknown word {kind}: use offers, uses or library")

    def folder_of(self, path):
        """The folder of the table that a file lies in; None when the table does not know it."""
        for depth in range(len(path.parts) - 1, 1, -1):
            folder = "/".join(path.parts[:depth])
            if folder in self.uses or self.pattern(folder) in self.uses:
                return folder
        return None

    @staticmethod
    def pattern(folder):
        return f"{pathlib.PurePosixPath(folder).parent}/*"

    def items(self, folder):
        return self.uses.get(folder, self.uses.get(self.pattern(folder), []))

    def allowed_headers(self, folder):
        """Names without .h, or None for every header."""
        names = set(self.offers.get(folder, []))
        for item in self.items(folder):
            if item == "*":
                return None
            if item.endswith(".h"):
                names.add(item.removesuffix(".h"))
            for offerer, headers in self.offers.items():
                if is_below(offerer, item):
                    names.update(headers)
        return names

    def may_call(self, folder, owner):
        return folder == owner or any(
            item == "*" or is_below(owner, item) for item in self.items(folder)
        )


def is_below(path, prefix):
    return path == prefix or path.startswith(f"{prefix}/")


def owns(path, owner):
    """owner is a folder, or the path of a file without its ending."""
    return is_below(str(path), owner) or str(path.with_suffix("")) == owner


def check_libraries(table, path, text):
    for target in INCLUDE.findall(text):
        for header, owners in table.libraries.items():
            if target.startswith(header) and not any(owns(path, owner) for owner in owners):
                yield f"{path}: only {', '.join(owners)} may include <{target}>"


def check_public_includes(table, path, text, folder):
    allowed = table.allowed_headers(folder)
    for target in INCLUDE.findall(text):
        if target.startswith("bakend/"):
            name = target.removeprefix("bakend/").removesuffix(".h")
            if allowed is not None and name not in allowed:
                yield f"{path}: {folder} may not use {target}"


def check_source(table, path):
    text = path.read_text()
    folder = table.folder_of(path)
    if folder is None:
        yield f"{path}: its folder is not in {TABLE}: add a `uses` line"
        return
    yield from check_libraries(table, path, text)
    yield from check_public_includes(table, path, text, folder)
    for target in QUOTED.findall(text):
        if target.startswith("bakend/") or target in table.items(folder):
            continue
        here = [path.parent / target, pathlib.Path(folder) / target]
        if ".." in target or not any(candidate.exists() for candidate in here):
            yield f"{path}: {target} is not in {folder}"


def check_headers(table):
    """A public header may include what the folder that offers it may use."""
    offerers = {name: folder for folder, names in table.offers.items() for name in names}
    for path in sorted(pathlib.Path("include/bakend").glob("*.h")):
        text = path.read_text()
        folder = offerers.get(path.stem)
        if folder is None:
            yield f"{path}: {TABLE} does not say who offers it"
            continue
        yield from check_libraries(table, path, text)
        yield from check_public_includes(table, path, text, folder)


def check_includes():
    table = Table(TABLE)
    for path in sorted(pathlib.Path("src").rglob("*.[ch]")):
        yield from check_source(table, path)
    yield from check_headers(table)


def target_name(folder):
    """As in scripts/cmake/tiers.cmake."""
    name = folder.removeprefix("src/")
    return re.sub("^modules/", "module_", name).replace("/", "_")


def export_prefixes(table, folder):
    """What a folder's external names begin with; the first is the one to propose."""
    name = folder.rsplit("/", 1)[1]
    if folder.startswith("src/modules/"):
        return (f"{name}_", f"bk_module_{name}")
    # bk_ is public. What the files of one folder share is named after the folder, one of the
    # headers it offers, or the file that holds it.
    files = {path.stem for path in pathlib.Path(folder).rglob("*.c")}
    return ("bk_", *(f"{unit}_" for unit in [name, *table.offers.get(folder, []), *files]))


def symbols_of(objects):
    """(defined, used) over the objects of one folder."""
    command = ["nm", "-g", *map(str, objects)]
    lines = subprocess.run(command, check=True, text=True, capture_output=True).stdout
    # Names with a dot are the compiler's own (__odr_asan.x, x.cold).
    pairs = re.findall(r"\b([A-Za-z]) (\w+)$", lines, re.M)
    defined = {name for kind, name in pairs if kind not in UNDEFINED}
    return defined, {name for kind, name in pairs if kind in UNDEFINED} - defined


def check_symbols(build):
    table = Table(TABLE)
    sources = pathlib.Path("src").rglob("*.c")
    folders = sorted({table.folder_of(path) for path in sources} - {None})
    defined, used = {}, {}
    for folder in folders:
        objects = pathlib.Path(build, "CMakeFiles", f"{target_name(folder)}.dir").rglob("*.o")
        # A deleted source leaves its object behind; it is no longer part of the folder.
        objects = [path for path in objects if is_current(path)]
        if not objects:
            yield f"{folder}: no objects in {build}: build it first"
            continue
        defined[folder], used[folder] = symbols_of(objects)
        prefixes = export_prefixes(table, folder)
        # The top (server, cli) is called by nobody: its names may be plain.
        for name in sorted(defined[folder] if "*" not in table.items(folder) else []):
            if not f"{name}_".startswith(prefixes):
                yield f"{folder}: exports {name}: make it static or name it {prefixes[0]}…"
    for user in used:
        for owner in defined:
            if not table.may_call(user, owner):
                for name in sorted(used[user] & defined[owner]):
                    yield f"{user}: calls {name} of {owner}"


def is_current(path):
    """…/CMakeFiles/TARGET.dir/src/base/map.c.o stands for src/base/map.c."""
    inside = path.parts[path.parts.index("CMakeFiles") + 2 :]
    return pathlib.Path(*inside).with_suffix("").exists()


def main(arguments):
    if arguments[:1] == ["includes"] and len(arguments) == 1:
        errors = list(check_includes())
    elif arguments[:1] == ["symbols"] and len(arguments) == 2:
        errors = list(check_symbols(arguments[1]))
    else:
        sys.exit(__doc__)
    print("\n".join(errors) or "ok")
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
