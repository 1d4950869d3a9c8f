"""Whether `X-Person` says the truth, with the embedded weights on real pictures."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.inference.preprocessing import fit_to_network
from service.matting.signals import shows_person

PICTURES = Path(__file__).parents[4] / "shared" / "matting-data"
COUNT = 100


def spread(paths: list[Path]) -> list[Path]:
    """Return COUNT of the paths, evenly over the list: its parts differ in kind."""
    return [paths[i] for i in np.linspace(0, len(paths) - 1, COUNT).astype(int)]


@pytest.mark.slow
@pytest.mark.skipif(not PICTURES.is_dir(), reason="needs the training data beside the repository")
def test_signal_is_right_on_pictures_with_and_without_people(engine):
    """Photos of people are of the split that was not trained on.

    The pictures without people were: as empty ones and behind pasted people.
    """
    with (PICTURES / "manifest.csv").open() as file:
        people = [
            PICTURES / f"{row['id']}.jpg" for row in csv.DictReader(file) if row["split"] == "val"
        ]

    def is_right(path: Path, expected: bool) -> bool:
        image = np.asarray(Image.open(path).convert("RGB"))
        matte = engine.run(fit_to_network(image, engine.info, None, 1.5)[np.newaxis])[0]
        return shows_person(matte) == expected

    empty = sorted((PICTURES / "backgrounds").glob("*.jpg"))
    wrong = [
        path.name
        for paths, expected in ((empty, False), (people, True))
        for path in spread(paths)
        if not is_right(path, expected)
    ]
    assert len(wrong) <= 0.05 * 2 * COUNT, wrong
