#!/usr/bin/env python3
"""Each of the three architecture locks lets a lawful tree pass and catches a violation.

A small project of a few files is made in a temporary folder with the real table, build files and
script, so what is tested is what guards the real tree.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent

LAWFUL = {
    "include/bakend/status.h": "int bk_status_zero(void);\n",
    "include/bakend/loop.h": '#include "bakend/status.h"\nint bk_loop_run(void);\n',
    "include/bakend/store.h": "int bk_store_open(void);\n",
    "include/bakend/module.h": "struct bk_module { int order; };\n",
    "src/base/status.c": '#include "bakend/status.h"\nint bk_status_zero(void) { return 0; }\n',
    "src/platform/loop.c": (
        '#include "bakend/loop.h"\nint bk_loop_run(void) { return bk_status_zero(); }\n'
    ),
    "src/kernel/store/store.c": (
        '#include "bakend/loop.h"\n#include "bakend/store.h"\n'
        "int bk_store_open(void) { return bk_loop_run(); }\n"
    ),
    "src/modules/modules.def": "BK_MODULE(auth)\nBK_MODULE(health)\n",
    "src/modules/auth/auth.h": "int auth_login(void);\n",
    "src/modules/auth/auth.c": (
        '#include "auth.h"\n#include "bakend/module.h"\n'
        "extern const struct bk_module bk_module_auth;\n"
        "const struct bk_module bk_module_auth = {1};\nint auth_login(void) { return 1; }\n"
    ),
    "src/modules/health/health.c": (
        '#include "bakend/module.h"\n#include "bakend/store.h"\n'
        "extern const struct bk_module bk_module_health;\nint health_check(void);\n"
        "const struct bk_module bk_module_health = {2};\n"
        "int health_check(void) { return bk_store_open(); }\n"
    ),
}


class Project(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bakend-architecture-"))
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ["CMakeLists.txt", "scripts/cmake", "tests/CMakeLists.txt", "scripts/tiers.txt",
                     "scripts/check_architecture.py"]:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, target)
        for name, text in LAWFUL.items():
            self.write(name, text)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run_command(self, *command):
        environment = {**os.environ, "LC_ALL": "C"}
        result = subprocess.run(command, cwd=self.folder, env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return result.returncode, result.stdout

    def check(self, *arguments):
        return self.run_command(sys.executable, "scripts/check_architecture.py", *arguments)

    def configure(self):
        # The small project owns no library, so that only a compiler and CMake are needed.
        return self.run_command("cmake", "-G", "Ninja", "-S", ".", "-B", "build",
                                "-DBAKEND_TESTS=OFF")

    def build(self):
        code, output = self.configure()
        self.assertEqual(code, 0, output)
        return self.run_command("cmake", "--build", "build")

    def assert_build_fails(self, *fragments):
        code, output = self.build()
        self.assertNotEqual(code, 0, "the compiler accepted the violation")
        for fragment in fragments:
            self.assertIn(fragment, output)

    def assert_caught(self, line, *arguments):
        code, output = self.check(*arguments)
        self.assertEqual(code, 1, output)
        self.assertIn(line, output)


class IncludePaths(Project):
    def test_lawful_tree_builds(self):
        code, output = self.build()
        self.assertEqual(code, 0, output)

    def test_lower_tier_does_not_find_a_higher_header(self):
        self.write("src/base/status.c", '#include "bakend/loop.h"\nint bk_base(void);\n')
        self.assert_build_fails("bakend/loop.h: No such file")

    def test_kernel_part_does_not_find_a_later_one(self):
        self.write("include/bakend/bus.h", "int bk_bus_open(void);\n")
        self.write("src/kernel/store/store.c", '#include "bakend/bus.h"\n')
        self.assert_build_fails("bakend/bus.h: No such file")

    def test_module_does_not_find_the_header_of_another(self):
        self.write("src/modules/health/health.c", '#include "auth.h"\n')
        self.assert_build_fails("auth.h: No such file")


class ModuleList(Project):
    def test_folder_that_is_not_listed_stops_the_configuration(self):
        self.write("src/modules/modules.def", "BK_MODULE(auth)\n")
        code, output = self.configure()
        self.assertNotEqual(code, 0)
        self.assertIn("add BK_MODULE(health)", " ".join(output.split()))

    def test_name_without_a_folder_stops_the_configuration(self):
        self.write("src/modules/modules.def", "BK_MODULE(auth)\nBK_MODULE(health)\nBK_MODULE(x)\n")
        code, output = self.configure()
        self.assertNotEqual(code, 0)
        self.assertIn("src/modules/x/*.c does not exist", " ".join(output.split()))


class IncludeGraph(Project):
    def test_lawful_tree_passes(self):
        self.assertEqual(self.check("includes"), (0, "ok\n"))

    def test_higher_header(self):
        self.write("src/base/status.c", '#include "bakend/loop.h"\n')
        self.assert_caught("src/base/status.c: src/base may not use bakend/loop.h", "includes")

    def test_path_into_another_module(self):
        self.write("src/modules/health/health.c", '#include "../auth/auth.h"\n')
        self.assert_caught("../auth/auth.h is not in src/modules/health", "includes")

    def test_library_outside_its_owner(self):
        self.write("src/modules/health/health.c", "#include <sqlite3.h>\n")
        self.assert_caught("only src/kernel/store may include <sqlite3.h>", "includes")

    def test_library_in_the_wrong_file_of_the_right_folder(self):
        self.write("src/platform/loop.c", "#include <sodium.h>\n")
        self.assert_caught("only src/platform/crypto may include <sodium.h>", "includes")

    def test_public_header_that_includes_a_higher_one(self):
        self.write("include/bakend/status.h", '#include "bakend/store.h"\n')
        self.assert_caught("status.h: src/base may not use bakend/store.h", "includes")

    def test_header_that_may_only_come_along_with_another(self):
        self.write("src/transport/http/http.c", '#include "bakend/store.h"\n')
        self.assert_caught("src/transport/http may not use bakend/store.h", "includes")

    def test_public_header_that_nobody_offers(self):
        self.write("include/bakend/stray.h", "\n")
        self.assert_caught("stray.h: scripts/tiers.txt does not say who offers it", "includes")

    def test_folder_that_the_table_does_not_know(self):
        self.write("src/extras/extras.c", "\n")
        self.assert_caught("src/extras/extras.c: its folder is not in", "includes")


class Symbols(Project):
    def assert_symbols_caught(self, line):
        code, output = self.build()
        self.assertEqual(code, 0, output)
        self.assert_caught(line, "symbols", "build")

    def test_lawful_tree_passes(self):
        self.build()
        self.assertEqual(self.check("symbols", "build"), (0, "ok\n"))

    def test_module_that_exports_a_foreign_name(self):
        self.write("src/modules/auth/extra.c", "int login(void);\nint login(void) { return 1; }\n")
        self.assert_symbols_caught("src/modules/auth: exports login")

    def test_kernel_part_that_exports_a_foreign_name(self):
        self.write("src/kernel/store/extra.c",
                   "int journal(void);\nint journal(void) { return 1; }\n")
        self.assert_symbols_caught("src/kernel/store: exports journal")

    def test_lower_folder_that_exports_a_foreign_name(self):
        self.write("src/platform/extra.c", "int spin(void);\nint spin(void) { return 1; }\n")
        self.assert_symbols_caught("src/platform: exports spin")

    def test_module_that_calls_another_by_extern(self):
        self.write("src/modules/health/extra.c", "int auth_login(void);\nint health_cheat(void);\n"
                   "int health_cheat(void) { return auth_login(); }\n")
        self.assert_symbols_caught("src/modules/health: calls auth_login of src/modules/auth")

    def test_lower_tier_that_calls_a_higher_one_by_extern(self):
        self.write("src/platform/extra.c", "int bk_store_open(void);\nint bk_cheat(void);\n"
                   "int bk_cheat(void) { return bk_store_open(); }\n")
        self.assert_symbols_caught("src/platform: calls bk_store_open of src/kernel/store")

    def test_folder_that_was_not_built(self):
        code, output = self.check("symbols", "build")
        self.assertEqual(code, 1)
        self.assertIn("build it first", output)


if __name__ == "__main__":
    unittest.main()
