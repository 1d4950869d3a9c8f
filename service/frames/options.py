"""Options of the one-frame delay, which clips and sessions share."""

from typing import Literal

from pydantic import Field

from service.frames.smoothing import OFD_THRESHOLD
from service.options import MattingOptions


class SmoothedOptions(MattingOptions):
    """Options that clips and sessions share."""

    smoothing: Literal["ofd", "off"] = Field(
        "ofd", description="one-frame delay against flicker, across chunks too"
    )
    ofd_threshold: float = Field(
        OFD_THRESHOLD, gt=0, lt=1, description="difference that counts as flicker"
    )

    @property
    def threshold(self) -> float | None:
        """The difference that counts as flicker; None: no smoothing."""
        return self.ofd_threshold if self.smoothing == "ofd" else None
