from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    left: int
    top: int
    width: int
    height: int


def find_subject(alpha):
    return Box(0, 0, 1, 1)


def expand_box(box, margin, shape):
    return box


def parse_margin(text):
    return text
