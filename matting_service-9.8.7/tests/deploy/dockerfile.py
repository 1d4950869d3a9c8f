"""What the tests need of the Dockerfile: the instructions that lead to a target, in order."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continuation lines joined."""

    name: str
    value: str


def read_target(path: Path, target: str) -> list[Instruction]:
    """Return the instructions of a stage and of the stages it is built from."""
    text = "".join(
        line for line in path.read_text().splitlines(keepends=True) if not line.startswith("#")
    )
    stages: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        name, value = line.strip().split(None, 1)
        if name == "FROM":
            base, alias = re.fullmatch(r"(\S+) AS (\S+)", value).groups()
            current = stages[alias] = list(stages.get(base, []))
        else:
            current.append(Instruction(name, " ".join(value.split())))
    return stages[target]


def read_env(instructions: list[Instruction]) -> dict[str, str]:
    """Return the environment a container of the target starts with."""
    found: dict[str, str] = {}
    for instruction in instructions:
        if instruction.name == "ENV":
            found.update(pair.split("=", 1) for pair in instruction.value.split())
    return found


def find_last(instructions: list[Instruction], name: str) -> str:
    """Return the value of the last instruction of a name: the one that counts."""
    return [one.value for one in instructions if one.name == name][-1]
