def check_size(text: str) -> str:
    return text


def fit_size(width: int, height: int, size: str) -> tuple[int, int]:
    return width, height
