"""The `matte` command as a whole: help, mistakes, versions, completion."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.__main__ import main as matte
from cli.group import COMMANDS
from service import __version__
from tests.helpers import ROOT


def test_help_lists_commands(capsys) -> None:
    assert matte(["--help"]) == 0
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in text and command.help in text


def test_no_command_shows_the_help_and_fails(capsys) -> None:
    assert matte([]) == 2
    printed = capsys.readouterr()
    assert "Usage: matte" in printed.err and printed.out == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(capsys, name: str) -> None:
    assert matte([name, "--help"]) == 0
    assert f"Usage: matte {name} " in capsys.readouterr().out


@pytest.mark.parametrize("typed, nearest", [("exprot", "export"), ("server", "serve")])
def test_nearest_command_is_named(capsys, typed: str, nearest: str) -> None:
    assert matte([typed]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert repr(typed) in line and repr(nearest) in line


def test_all_commands_are_named_when_none_is_near(capsys) -> None:
    assert matte(["xyzzy"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "did you mean" not in line and all(name in line for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["video", "--fether", "1", "a", "b"], ["--vers"]])
def test_option_that_is_none_is_one_line(capsys, arguments: list[str]) -> None:
    assert matte(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: No such option") and "--help`" in line


def test_version(capsys) -> None:
    assert matte(["--version"]) == 0
    assert capsys.readouterr().out == f"matte {__version__}\n"


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "onnx", "onnxruntime", "fastapi", "cv2", "numpy", "pydantic")
    result = run_python(
        "import sys, cli.__main__ as c; c.main(['--help']);"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_needs_no_torch(name: str) -> None:
    result = run_python(
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None;"
        f"from cli.__main__ import main; sys.exit(main(['{name}', '--help']))"
    )
    assert result.returncode == 0 and result.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "a.toml"],
        ["adapt", "a.mp4", "--model", "a.pt", "--out", "b.pt"],
        ["evaluate", "a.pt", "photos"],
        ["bench", "--model", "a.pt"],
        ["pack", "a.pt", "a.npz"],
        ["export", "a.pt", "a.onnx"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_command_without_torch_says_what_to_install(arguments: list[str]) -> None:
    result = run_python(
        "import sys; sys.modules['torch'] = None;"
        f"from cli.__main__ import main; sys.exit(main({arguments}))"
    )
    (line,) = result.stderr.splitlines()
    assert result.returncode == 1 and "needs torch" in line and "`make setup`" in line


# What is typed after `matte`, and a word that must be offered.
LINES = [("vi", "video"), ("image --refi", "--refine"), ("image --refine f", "fine")]
SHELLS = {
    "bash": 'eval "$(matte completion bash)"; COMP_WORDS=(matte {words}); '
    'COMP_CWORD={last}; _matte_completion matte; printf "%s\\n" "${{COMPREPLY[@]}}"',
    "zsh": 'compdef() {{ :; }}; _arguments() {{ print -r -- "$@"; }}; '
    'eval "$(matte completion zsh)"; words=(matte {words}); CURRENT=$(({last} + 1)); '
    "_matte_completion",
    "fish": 'matte completion fish | source; complete --do-complete "matte {words}"',
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("words, offered", LINES)
def test_shell_completes(shell: str, words: str, offered: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "matte"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli "$@"\n')
    program.chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    script = SHELLS[shell].format(words=words, last=len(words.split()))
    done = subprocess.run([shell, "-c", script], env=environ, capture_output=True, text=True)
    assert offered in done.stdout, done.stderr


def test_shell_that_is_unknown_is_a_mistake(capsys) -> None:
    assert matte(["completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err
