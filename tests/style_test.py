#!/usr/bin/env python3
"""The house rules catch what they are for, and wrap_comments.py keeps what it should."""
import importlib.util
import pathlib
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent


def load(path):
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STYLE = load("scripts/check_style.py")
WRAP = load("scripts/lib/wrap_comments.py")


def calls(path, text):
    return list(STYLE.check_calls(pathlib.Path(path), STYLE.without_opaque(text)))


def lengths(text):
    return list(STYLE.check_lengths(pathlib.Path("src/a.c"), text, STYLE.without_opaque(text)))


def function_of(line_count):
    body = "    run();\n" * (line_count - 3)
    return f"static int\nrun_all(struct list *list) {{\n{body}}}\n"


class BannedFunctions(unittest.TestCase):
    def test_banned_call_is_caught_with_its_line_and_remedy(self):
        found = calls("src/platform/a.c", "int a;\nvoid f(void) { strcpy(to, from); }\n")
        self.assertEqual(found, ["src/platform/a.c:2: strcpy: " + STYLE.BANNED["strcpy"]])

    def test_heap_belongs_to_base_and_is_free_in_tests(self):
        text = "void f(void) { free(x); }\n"
        self.assertEqual(len(calls("src/modules/auth/a.c", text)), 1)
        self.assertEqual(calls("src/base/alloc.c", text), [])
        self.assertEqual(calls("tests/unit/base/a_test.c", text), [])

    def test_words_in_comments_and_texts_and_members_are_no_calls(self):
        text = '/* strcpy(a) */ char *x = "sprintf(a)"; // atoi(x)\nint y = hooks->free(x);\n'
        self.assertEqual(calls("src/platform/a.c", text), [])


class Lengths(unittest.TestCase):
    def test_function_at_the_limit_passes_and_one_line_more_is_caught(self):
        self.assertEqual(lengths(function_of(STYLE.FUNCTION_LINES)), [])
        found = lengths(function_of(STYLE.FUNCTION_LINES + 1))
        self.assertEqual(found, ["src/a.c:1: run_all has 71 lines, at most 70"])

    def test_tables_and_structs_are_no_functions(self):
        rows = '    {"a", run(1)},\n' * 100
        self.assertEqual(lengths(f"static const struct row rows[] = {{\n{rows}}};\n"), [])
        self.assertEqual(lengths("struct a {\n" + "    int b;\n" * 100 + "};\n"), [])

    def test_macro_before_a_function_does_not_hide_it(self):
        text = "#define A(x) \\\n    do { \\\n    } while (0)\n" + function_of(80)
        self.assertEqual(len(lengths(text)), 1)

    def test_long_line_and_long_file_are_caught(self):
        self.assertEqual(lengths("// é" + "x" * 96 + "\n"), [])
        self.assertEqual(lengths("//" + "x" * 99 + "\n"), ["src/a.c:1: 101 columns, at most 100"])
        self.assertEqual(len(lengths("int a;\n" * 801)), 1)


class WrappedComments(unittest.TestCase):
    def test_surplus_moves_into_the_same_paragraph(self):
        text = f"/*\n * {'word ' * 20}end\n * goes on.\n */\n"
        wrapped = f"/*\n * {('word ' * 19).strip()}\n * word end goes on.\n */\n"
        self.assertEqual(WRAP.wrap(text), wrapped)

    def test_single_line_comment_gets_a_second_line(self):
        text = f"    /* {'word ' * 19}end */\n"
        self.assertEqual(WRAP.wrap(text), f"    /* {('word ' * 18).strip()}\n     * word end */\n")

    def test_table_row_hangs_under_its_text(self):
        text = f"/*\n *   name  {'word ' * 18}end\n *   other  row\n */\n"
        lines = WRAP.wrap(text).split("\n")
        self.assertEqual(lines[2], " *         end")
        self.assertEqual(lines[3], " *   other  row")

    def test_ruler_is_cut(self):
        text = f"/* --- name {'-' * 100} */\n"
        self.assertEqual(len(WRAP.wrap(text)), 101)

    def test_what_fits_is_left_alone(self):
        text = f"/* short\n * lines */\nint a; /* {'x' * 60} */\n"
        self.assertEqual(WRAP.wrap(text), text)


if __name__ == "__main__":
    unittest.main()
