"""The console script: what it lists, how it ends, and that it stays light."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import types

import pytest

import zipeft
from zipeft import registry
from zipeft.api.method import Method
from zipeft.commands import COMMANDS, main
from zipeft.commands.common import ArgumentParser, exit_status
from zipeft.errors import UserError, printable


class Shout(Method):
    """Shouts at the backbone."""

    loud: bool = True

    def apply(self, backbone, model): ...


@pytest.fixture
def shout():
    registry.methods.register("shout", Shout)
    yield
    registry.methods.unregister("shout")


def test_ls_shows_every_plugin_with_its_description(capsys, shout):
    assert main(["ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for plugins in (registry.backbones, registry.tasks, registry.methods):
        for row in plugins.listing():
            assert any(line.startswith(row.name) and row.summary in line and row.origin in line for line in lines)
    assert any("Shouts at the backbone." in line and "this process" in line for line in lines)


def test_ls_of_one_kind(capsys):
    assert main(["ls", "methods"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("methods ")
    assert "backbones" not in out


def test_ls_verbose_shows_settings(capsys, shout):
    assert main(["ls", "methods", "--verbose"]) == 0
    assert "learning_rate: float = 0.001" in capsys.readouterr().out


def test_ls_flags_a_broken_plugin(capsys, monkeypatch):
    broken = registry.PluginInfo("bad", "", "acme 1.0", "acme:Bad", "ImportError: no acme")
    monkeypatch.setattr(registry.Registry, "listing", lambda self, pattern: [broken])
    for arguments in (["ls", "methods"], ["ls", "methods", "-v"]):
        assert main(arguments) == 0
        assert "BROKEN: ImportError: no acme" in capsys.readouterr().out


def test_version_and_bare_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"zipeft {zipeft.__version__}\n"
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("arguments", [["sl"], ["ls", "colours"], ["ls", "--no-such"], ["--no-such"]])
def test_bad_arguments_are_one_line_and_status_2(capsys, arguments):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("zipeft: error: ")
    assert captured.err.count("\n") == 1
    assert "--help)" in captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_delegates_get_their_arguments_untouched(monkeypatch, command):
    seen = []
    name = f"zipeft.commands.{COMMANDS[command].module}"
    module = types.ModuleType(name)
    module.main = lambda argv: seen.append(argv) or 7
    monkeypatch.setitem(sys.modules, name, module)
    assert main([command, "--help", "--", "-x", "ls"]) == 7
    assert seen == [["--help", "--", "-x", "ls"]]


def raiser(error):
    @exit_status
    def command(argv=None):
        raise error

    return command


def test_user_error_is_one_line_and_status_2(capsys):
    assert raiser(UserError("no folder 'x';\nmake one"))() == 2
    assert capsys.readouterr().err == "zipeft: error: no folder 'x'; make one\n"


def test_a_missing_permission_is_one_line_and_status_2(capsys):
    assert raiser(PermissionError(13, "Permission denied", "/data/x"))() == 2
    message = "zipeft: error: /data/x cannot be read or written (Permission denied): check its permissions\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), "x cannot be used (File name too long): check"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x"), "x cannot be used (Not a directory): check the"),
        (OSError(errno.EFBIG, "File too large"), "the output cannot be written: File too large; make room for it"),
        (MemoryError(), "there is not enough memory for that: take less at once, or a machine with more"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "there is not enough memory for that: take less"),
        (UserError("x" * 10_000), f"{'x' * 200}...{'x' * 50}\n"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_one_line_and_status_2(error, message, capsys):
    assert raiser(error)() == 2
    said = capsys.readouterr().err
    assert said.startswith(f"zipeft: error: {message}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "y" * 300, "--out", "x", "--backbone", "llama"],
        ["push", "y" * 300, "owner/name"],
        ["pull", "owner/name", "--out", "y" * 300],
        ["pull", "owner/name", "--out", os.devnull],
        ["generate", "--backbone", "llama", "--checkpoint", "y" * 300, "Hello"],
    ],
)
def test_a_path_that_cannot_be_is_named_in_one_line(arguments, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert any(words in said for words in ("cannot be used (", "cannot be read", "is no name on the hub"))
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--backbone", "vit", "--task", "fgvc", "--seeds", ""],
        ["run", "--backbone", "vit", "--task", "fgvc", "--checkpoint", ""],
        ["run", "--backbone", "vit", "--task", "fgvc", "--ray", ""],
        ["profile", "--backbone", "vit", "--checkpoint", ""],
        ["generate", "--backbone", "llama", "Hello", "--template", ""],
        ["generate", "", "Hello"],
        ["evaluate", ""],
        ["push", "adapter", "owner/name", "--base-model", " "],
        ["pull", "owner/name", "--out", "x", "--revision", ""],
        ["pull", "owner/name", "--out", ""],
        ["judge", "a.jsonl", "b.jsonl", "--endpoint", "http://localhost/v1", "--model", "x", "--api-key-env", ""],
        ["lm-eval", "--backbone", "llama", "--tasks", ""],
        ["fetch", ""],
        ["validate", ""],
        ["leaderboard", "--out", ""],
    ],
)
def test_an_empty_value_is_no_default(arguments, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert any(words in said for words in ("its value is empty", "invalid Path value: ''", "the ADAPTER is empty"))
    assert said.count("\n") == 1


def test_interrupt_is_one_line_and_status_130(capsys):
    assert raiser(KeyboardInterrupt())() == 130
    assert capsys.readouterr().err == "zipeft: interrupted\n"


@pytest.mark.parametrize("defect", [ZeroDivisionError(), RuntimeError("shapes differ"), OSError(errno.EBADF, "Bad")])
def test_defects_propagate(defect):
    with pytest.raises(type(defect)):
        raiser(defect)()


def test_status_and_arguments_pass_through():
    assert exit_status(lambda argv: len(argv))(["a", "b", "c"]) == 3


def test_parser_of_the_package_complains_in_one_line():
    parser = ArgumentParser(prog="zipeft run")
    parser.add_argument("--seeds", type=int)
    with pytest.raises(UserError, match=r"argument --seeds: invalid int value: 'x' \(see zipeft run --help\)"):
        parser.parse_args(["--seeds", "x"])


def test_reader_that_goes_away_is_silent(tmp_path):
    program = "import sys; from zipeft.commands import main; sys.exit(main(['ls']))"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def ended(*redirections, **environment):
    """Return status and error of ``zipeft ls`` with output that the shell redirects."""
    command = f"exec '{sys.executable}' -m zipeft ls {' '.join(redirections)}"
    done = subprocess.run(["bash", "-c", command], env={**os.environ, **environment}, capture_output=True)
    return done.returncode, done.stderr.decode()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_output_that_cannot_be_written_is_said_in_one_line():
    message = "zipeft: error: the output cannot be written: No space left on device; make room for it\n"
    assert ended(">/dev/full") == (2, message)


def test_output_may_be_closed():
    assert ended(">&-") == (0, "")


def test_a_terminal_without_unicode_shows_what_it_has(monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    assert exit_status(lambda: print("├──┤ │ ≈ 5 é") or 0)() == 0
    assert buffer.getvalue() == b"+--+ | ~ 5 ?\n"


def test_module_is_the_console_script(tmp_path):
    command = [sys.executable, "-m", "zipeft", "--version"]
    out = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert out == f"zipeft {zipeft.__version__}\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 北京 ≈ 👍\u200d\n\tx", "plain é 北京 ≈ 👍\u200d\n\tx"),
        ("\x1b[2J\x07\x7f\x9b", r"\x1b[2J\x07\x7f\x9b"),
        ("a\rb\x00", r"a\rb\x00"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\udcff", r"\udcff"),
    ],
)
def test_text_of_others_shows_and_does_nothing_else(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("name", ["y" * 100_000, "y " * 50_000, "\x1b" * 100_000])
def test_a_message_is_short_whatever_it_repeats(name, capsys):
    assert main([name]) == 2
    err = capsys.readouterr().err
    assert err.startswith("zipeft: error: argument COMMAND: invalid choice: ")
    assert err.endswith("(see zipeft --help)\n")
    assert len(err) < 2000


def test_ls_takes_a_pattern(capsys):
    assert main(["ls", "methods", "zero*"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert "zero_gated" in listed
    assert all(name.startswith("zero") for name in listed)
    assert main(["ls", "methods", "zero_gatd"]) == 2
    error = "zipeft: error: no method matches 'zero_gatd'; did you mean 'zero_gated'?\n"
    assert capsys.readouterr().err == error


def test_ls_lists_splices_where_they_are_asked_for(capsys):
    assert main(["ls", "splices", "--verbose"]) == 0
    assert "timm_rope" in capsys.readouterr().out
