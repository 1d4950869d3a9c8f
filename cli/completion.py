"""`matte completion SHELL`: print what makes the shell complete commands and options."""

from typing import Annotated, Literal

import typer
from typer.completion import get_completion_script


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="the shell")],
) -> None:
    """Print the completion script of a shell.

    Bash: `eval "$(matte completion bash)"` in ~/.bashrc; zsh: the same with zsh in ~/.zshrc after
    compinit; fish: `matte completion fish > ~/.config/fish/completions/matte.fish`.
    """
    print(get_completion_script(prog_name="matte", complete_var="_MATTE_COMPLETE", shell=shell))
