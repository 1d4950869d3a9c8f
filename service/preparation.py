"""What takes long at the start, all of it at the same time: models, decoders, modules."""

import importlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.inference.engine import OnnxEngine
from service.inference.registry import ModelSource, find_sources
from service.media.decoder.starter import DecoderStarter
from service.runtime import count_stills
from service.settings import Settings

if TYPE_CHECKING:
    from service.jobs.rows.store import JobStore


@dataclass(frozen=True)
class Prepared:
    """The first model, which has run once, the others, jobs, and decoders that are starting."""

    engine: OnnxEngine
    sources: list[ModelSource]
    job_store: "JobStore"
    starter: DecoderStarter


def prepare(settings: Settings) -> Prepared:
    """Open the models and start the decoders while the modules of the app are imported.

    Raises ModelError, DeviceError or InferenceError when a model or the device cannot be used,
    JobStoreError when the jobs cannot.
    """
    starter = DecoderStarter(settings, early=count_stills(settings))
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="models") as thread:
            opening = thread.submit(open_models, settings)
            from service.jobs.opening import open_job_store

            importlib.import_module("service.app")
            importlib.import_module("service.api.protocol.server")
            engine, sources = opening.result()
        job_store = open_job_store(settings)
    except BaseException:
        starter.close()
        raise
    return Prepared(engine, sources, job_store, starter)


def open_models(settings: Settings) -> tuple[OnnxEngine, list[ModelSource]]:
    engine = OnnxEngine(settings)
    engine.warm_up()
    return engine, find_sources(settings)
