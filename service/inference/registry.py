"""The models that are served: which there are, which one a request gets, loaded when needed."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from service.errors import InvalidOption, NotReady
from service.inference.batcher import Batcher, Matte
from service.inference.engine import Engine, InferenceError, OnnxEngine, State
from service.inference.fair_queue import SOMEBODY, Caller
from service.inference.models import (
    ModelError,
    ModelInfo,
    NetworkInput,
    inspect_model,
    read_model,
)
from service.inference.providers import CUDA, DeviceError
from service.settings import AUTO_MODEL, Settings

log = logging.getLogger(__name__)
LOAD_RETRY_S = 10


@dataclass(frozen=True)
class ModelSource:
    """A model file that was found to be good at the start, and is loaded when it is needed."""

    path: Path
    info: ModelInfo


def find_sources(settings: Settings) -> list[ModelSource]:
    """Read and check the models beside the first one; raises ModelError."""
    sources = []
    for path in settings.other_models:
        source = ModelSource(path, inspect_model(read_model(path, None)))
        sources.append(source)
    return sources


class Model:
    """One served network: its info from the start, its engine and its queue once it is needed."""

    def __init__(
        self,
        info: ModelInfo,
        open_engine: Callable[[], Engine],
        make_batcher: Callable[[Engine], Batcher],
    ) -> None:
        self.info = info
        self._open_engine = open_engine
        self._make_batcher = make_batcher
        self._lock = asyncio.Lock()
        self._batcher: Batcher | None = None

    @property
    def engine(self) -> Engine | None:
        """The engine, None before it is needed."""
        return None if self._batcher is None else self._batcher.engine

    @property
    def provider(self) -> str | None:
        """The provider it runs on, None before it is loaded."""
        return None if self.engine is None else self.engine.provider

    @property
    def waiting(self) -> int:
        """Pictures that no run has begun with."""
        return 0 if self._batcher is None else self._batcher.waiting

    @property
    def run_s(self) -> float:
        """Seconds since the oldest run in progress began, 0 when there is none."""
        return 0.0 if self._batcher is None else self._batcher.run_s

    def take(self, engine: Engine) -> None:
        """Serve by an engine that was loaded and has run once."""
        self._batcher = self._make_batcher(engine)
        self._batcher.start()

    async def load(self) -> Engine:
        """Load the model and run it once, unless that was done; raises NotReady."""
        return (await self._load()).engine

    async def infer(
        self,
        tensor: NetworkInput,
        *,
        timeout_s: float,
        caller: Caller = SOMEBODY,
        state: State = (),
    ) -> Matte:
        """Return the matte of one picture (see Batcher), loading the model first."""
        batcher = await self._load()
        return await batcher.infer(tensor, timeout_s=timeout_s, caller=caller, state=state)

    async def aclose(self) -> None:
        if self._batcher is not None:
            await self._batcher.aclose()

    async def _load(self) -> Batcher:
        async with self._lock:
            if self._batcher is None:
                self.take(await self._open())
            assert self._batcher is not None
            return self._batcher

    async def _open(self) -> Engine:
        try:
            return await asyncio.to_thread(open_warm, self._open_engine)
        except (ModelError, DeviceError, InferenceError) as error:
            log.error("a model cannot be loaded", extra={"fields": {"reason": str(error)}})
            raise NotReady(
                f"the model `{self.info.name}` cannot be loaded",
                hint="ask for another model of /v1/models; the service's log has the reason",
                retry_after_s=LOAD_RETRY_S,
            ) from error

    def describe(self) -> dict[str, Any]:
        """Return what `/v1/models` says of it; the provider is known once it is loaded."""
        info, engine = self.info, self.engine
        return {
            "name": info.name,
            "version": info.version,
            "sha256": info.sha256,
            "weights_sha256": info.weights_sha256,
            "licence": info.licence,
            "precision": info.precision if engine is None else engine.precision,
            "ref_size": info.ref_size,
            "photo_ref_sizes": info.photo_ref_sizes and list(info.photo_ref_sizes),
            "fixed_size": info.fixed_size and list(info.fixed_size),
            "takes_trimap": info.takes_trimap,
            "recurrent": info.is_recurrent,
            "loaded": engine is not None,
            "provider": engine and engine.provider,
            "provider_note": engine and engine.note,
        }


def open_warm(open_engine: Callable[[], Engine]) -> Engine:
    """Open an engine and run it once."""
    engine = open_engine()
    engine.warm_up()
    return engine


class Models(Mapping[str, Model]):
    """All served models by name; the first one is the default and is loaded."""

    def __init__(self, models: Sequence[Model], fast_model: str) -> None:
        """Raises ModelError for two models of one name, or of the name `auto`."""
        self._models = {model.info.name: model for model in models}
        if len(self._models) < len(models) or AUTO_MODEL in self._models:
            names = ", ".join(model.info.name for model in models)
            raise ModelError(f"models need names of their own, and not `{AUTO_MODEL}`: {names}")
        self._fast_model = fast_model
        self.default = models[0]

    @classmethod
    async def start(
        cls,
        settings: Settings,
        engine: Engine | None,
        sources: Sequence[ModelSource] | None,
        make_batcher: Callable[[Engine], Batcher],
    ) -> "Models":
        """Load the first model, unless its engine is given, and run it; look at the others.

        Raises ModelError, DeviceError or InferenceError.
        """
        if sources is None:
            sources = await asyncio.to_thread(find_sources, settings)
        if engine is None:
            engine = await asyncio.to_thread(OnnxEngine, settings)
        await asyncio.to_thread(engine.warm_up)

        def reopen(source: ModelSource) -> Engine:
            again = OnnxEngine(settings, read_model(source.path, source.info.sha256))
            if again.info != source.info:  # requests were checked against what it said then
                raise ModelError(f"{source.path} was described otherwise when the service started")
            return again

        opened = engine
        first = Model(engine.info, lambda: opened, make_batcher)
        others = [Model(one.info, partial(reopen, one), make_batcher) for one in sources]
        models = cls([first, *others], settings.fast_model)
        first.take(engine)
        return models

    def __getitem__(self, name: str) -> Model:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def describe(self) -> list[dict[str, Any]]:
        """Return what `/v1/models` says: each model, and when `auto` takes it."""
        fast = self.choose(AUTO_MODEL, prefers_speed=True)
        return [
            model.describe()
            | {"default": model is self.default, "default_for_speed": model is fast}
            for model in self.values()
        ]

    def choose(self, name: str, *, prefers_speed: bool = False) -> Model:
        """Return the model of a name; `auto`: the first, or for speed on a CPU the fast one.

        Raises InvalidOption when it is not served.
        """
        if name == AUTO_MODEL:
            wants_fast = prefers_speed and self.on_cpu
            fast = self._models.get(self._fast_model) if wants_fast else None
            return fast or self.default
        if name not in self._models:
            names = ", ".join(f"`{known}`" for known in self)
            raise InvalidOption(f"there is no model `{name}`", hint=f"this service has {names}")
        return self._models[name]

    @property
    def on_cpu(self) -> bool:
        """Whether the default network runs on a processor."""
        engine = self.default.engine
        return engine is not None and engine.provider != CUDA

    @property
    def run_s(self) -> float:
        """Seconds since the oldest run in progress began, 0 when there is none."""
        return max(model.run_s for model in self.values())

    async def aclose(self) -> None:
        """End all queues; what waits in them is answered 503."""
        for model in self.values():
            await model.aclose()
