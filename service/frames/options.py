"""Options that clips and sessions share."""

from typing import Literal

from pydantic import Field

from service.frames.smoothing import OFD_THRESHOLD
from service.matting.placement import ORIGINAL, Placement, parse_placement
from service.media.video.types import Deinterlace
from service.options import MattingOptions, Position, Scale


class SmoothedOptions(MattingOptions):
    """Options that clips and sessions share."""

    prefer: Literal["auto", "quality", "speed"] = Field(
        "auto",
        description="with model=auto: speed takes the fast model where the network runs on a CPU; "
        "auto: speed for live frames, quality for others",
    )
    refine: Literal["auto", "off"] = Field(
        "auto", description="bring the matte to the full size along the edges, or linearly"
    )
    smoothing: Literal["ofd", "off"] = Field(
        "ofd", description="one-frame delay against flicker, across chunks too"
    )
    ofd_threshold: float = Field(
        OFD_THRESHOLD, gt=0, lt=1, description="difference that counts as flicker"
    )

    deinterlace: Deinterlace = Field(
        "auto",
        description="make pictures of one moment from those that hold two: where the clip says so, "
        "always, or never",
    )
    hdr: Literal["tonemap", "refuse"] = Field(
        "tonemap", description="PQ and HLG become SDR (ITU-R BT.2390), or are refused"
    )

    # Of the frame, not of the person's box: that changes from frame to frame.
    scale: Scale = Field(
        ORIGINAL,
        max_length=16,
        examples=["50%"],
        description="the person's size: `original`, or the part of the result, 10% to 100%, that "
        "the whole frame with the person is fitted into",
    )
    position: Position = Field(
        "auto",
        max_length=32,
        examples=["100% 100%"],
        description="where the scaled frame is: `center`, `original` (the same), or one or two "
        "percentages of the room beside and above as `background-position` of CSS has them",
    )

    @property
    def placement(self) -> Placement | None:
        """Where the frame with the person goes, None where it stays."""
        return parse_placement(self.scale, self.position)

    @property
    def flicker_threshold(self) -> float | None:
        """The difference that counts as flicker; None: no smoothing."""
        return self.ofd_threshold if self.smoothing == "ofd" else None
