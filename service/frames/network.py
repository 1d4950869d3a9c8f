"""The network as the frames of one clip or session use it, from any thread."""

import asyncio
from concurrent.futures import Future
from dataclasses import replace
from typing import Protocol

from service.errors import ImpossibleOutput
from service.frames.options import SmoothedOptions
from service.inference.batcher import Matte
from service.inference.engine import State
from service.inference.fair_queue import SOMEBODY, Caller
from service.inference.lanes import LANES
from service.inference.models import ModelInfo, NetworkInput
from service.inference.preprocessing import (
    check_ref_size,
    choose_input_size,
    normalise,
    prepare_input,
)
from service.inference.registry import Model
from service.matting.crop import cut
from service.matting.hint import Region, choose_whole_size, embed_matte
from service.matting.resize import resize_image
from service.media.colour.planes import YuvPicture
from service.media.video.types import Image
from service.options import REF_SIZE_STEP, find_region
from service.runtime import Runtime
from service.settings import AUTO_MODEL, Settings

FRAME_TIMEOUT_S = 60.0
# The fast network at 256 in place of 320: an eighth more error, and a third less time.
LIVE_SHARE = 0.8

Tensor = NetworkInput


class Network(Protocol):
    """What a segment needs of the network: `ahead` frames in the queue at once are useful.

    `ref_size` is the shorter side of its input, None: the model's own.
    """

    ref_size: int | None

    @property
    def ahead(self) -> int: ...

    def prepare(self, picture: Image | YuvPicture, pixel_shape: float = 1) -> tuple[Tensor, Image]:
        """Return the input of a frame and the RGB picture, (h, w, 3) uint8, that it was made of.

        `pixel_shape`: how wide a pixel is for its height.
        """

    def infer(self, tensor: Tensor, state: State) -> Future[Matte]:
        """Queue an input; `state` is that of the frame before (see Matte)."""


def choose_frame_model(
    runtime: Runtime, options: SmoothedOptions, *, is_live: bool = False
) -> Model:
    """Return the model that mattes a clip or a session with these options.

    Raises InvalidOption when it is not served or takes no `ref_size`, ImpossibleOutput when it
    needs more than pictures.
    """
    prefers_speed = options.prefer == "speed" or (options.prefer == "auto" and is_live)
    model = runtime.models.choose(options.model, prefers_speed=prefers_speed)
    check_ref_size(model.info, options.ref_size)
    if model.info.takes_trimap:
        raise ImpossibleOutput(
            f"the model `{model.info.name}` needs a trimap for each picture, a clip brings none"
        )
    return model


def choose_live_ref_size(
    runtime: Runtime, options: SmoothedOptions, model: ModelInfo
) -> int | None:
    """Return the shorter side at the network for live frames, None: the model's own.

    On a processor what is chosen for its speed gets LIVE_SHARE of the model's own, unless a model
    or a size was asked for.
    """
    asked = options.ref_size is not None or options.model != AUTO_MODEL
    if asked or options.prefer == "quality" or model.fixed_size or not runtime.models.on_cpu:
        return options.ref_size
    return max(1, round(model.ref_size * LIVE_SHARE / REF_SIZE_STEP)) * REF_SIZE_STEP


def prepare_frame(
    picture: Image | YuvPicture,
    info: ModelInfo,
    ref_size: int | None,
    max_megapixels: float,
    pixel_shape: float = 1,
) -> tuple[Tensor, Image]:
    """Do what `prepare_input` does; planes are shrunk before they become RGB."""
    if isinstance(picture, YuvPicture):
        size = choose_input_size(picture.size, info, ref_size, max_megapixels, pixel_shape)
        if size[0] * size[1] < picture.size[0] * picture.size[1]:
            network_image = picture.shrink(size)
            return normalise(network_image, info), network_image
    image = picture.rgb if isinstance(picture, YuvPicture) else picture
    return prepare_input(image, info, ref_size, max_megapixels, pixel_shape=pixel_shape)


class FrameNetwork:
    """A model at one `ref_size`; None: the model's own. Made on the event loop.

    `caller` is for whom it runs. With `region` it sees that part of each frame alone, and mattes
    are 0 outside. All frames have one size.
    """

    def __init__(
        self,
        settings: Settings,
        model: Model,
        ref_size: int | None,
        region: Region | None = None,
        caller: Caller = SOMEBODY,
    ) -> None:
        self._region = region
        self._caller = caller
        self._shape = 0, 0
        self._max_megapixels = settings.network_max_megapixels
        self._model = model
        self.ref_size = ref_size
        self._loop = asyncio.get_running_loop()

    @property
    def ahead(self) -> int:
        if self._model.info.is_recurrent:  # the next frame needs the state after this one
            return 1
        engine = self._model.engine
        return LANES + (1 if engine is None else engine.max_batch_size)

    def prepare(self, picture: Image | YuvPicture, pixel_shape: float = 1) -> tuple[Tensor, Image]:
        """Return the input of a frame and the picture that it was made of; raises InvalidOption.

        That picture is the whole frame, at the size of the matte.
        """
        how = self._model.info, self.ref_size, self._max_megapixels
        if self._region is None:
            return prepare_frame(picture, *how, pixel_shape)
        image = picture.rgb if isinstance(picture, YuvPicture) else picture
        box = find_region(self._region, image)
        self._shape = image.shape[0], image.shape[1]
        part = cut(image, box)
        tensor, seen = prepare_input(part, *how, pixel_shape=pixel_shape)
        return tensor, resize_image(image, choose_whole_size(seen.shape, box, self._shape))

    def infer(self, tensor: Tensor, state: State) -> Future[Matte]:
        """Queue an input from another thread than the loop's."""
        return asyncio.run_coroutine_threadsafe(self.matte(tensor, state), self._loop)

    async def matte(self, tensor: Tensor, state: State) -> Matte:
        """Queue an input on the event loop."""
        matte = await self._model.infer(
            tensor, timeout_s=FRAME_TIMEOUT_S, caller=self._caller, state=state
        )
        if self._region is None:
            return matte
        box = self._region.find_box(self._shape)
        whole = await asyncio.to_thread(embed_matte, matte.alpha, box, self._shape)
        return replace(matte, alpha=whole)
