"""Buffers that are kept for each shape, and what happens when memory runs out."""

import asyncio
import logging
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.inference.batcher import Batcher, InferenceFailed
from service.inference.binding import MAX_SHAPES, BoundRuns
from service.inference.engine import OUT_OF_MEMORY, InferenceError, OnnxEngine, list_warm_sizes
from service.inference.health import Health
from service.inference.models import ModelError
from service.inference.providers import CPU, CUDA
from service.metrics import Metrics
from service.settings import Settings
from tests.fakes import FAKE_INFO, FakeEngine, opaque
from tests.onnx_files import METADATA, write_model


def load(path, **settings) -> OnnxEngine:
    return OnnxEngine(Settings(**{"model_path": path, "device": "cpu"} | settings))


def make_batch(number: int, size: tuple[int, int] = (32, 64)) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.uniform(-1, 1, (number, 3, *size)).astype(np.float32)


def write_hungry_model(path):
    """Write a network that needs 4^n * 64 kB for n pictures: for 16 more than there is."""
    constants = {"axes": [1], "one": [1], "zero": [0], "four": [4], "base": [1 << 14]}
    nodes = [
        helper.make_node("Shape", ["input"], ["n"], start=0, end=1),
        helper.make_node("Pow", ["four", "n"], ["share"]),
        helper.make_node("Mul", ["share", "base"], ["length"]),
        helper.make_node("ConstantOfShape", ["length"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        helper.make_node("ReduceMean", ["input", "axes"], ["x"], keepdims=1),
        helper.make_node("Add", ["x", "nothing"], ["sum"]),
        helper.make_node("HardSigmoid", ["sum"], ["output"], alpha=0.5, beta=0.5),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "hungry",
        [value("input", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [value("output", TensorProto.FLOAT, ["n", 1, "a", "b"])],
        [helper.make_tensor(n, TensorProto.INT64, [1], v) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, METADATA)
    onnx.save(model, path)
    return path


def test_bound_runs_give_what_plain_runs_give(tmp_path) -> None:
    engine = load(write_model(tmp_path / "tiny.onnx"))
    bound = BoundRuns(engine._session, "input", "output", "cpu")
    kept = []
    for number, size in [(1, (32, 64)), (2, (32, 64)), (1, (64, 32)), (2, (32, 64))]:
        batch = make_batch(number, size)
        kept.append((batch, bound.run(batch, size)))
    for batch, output in kept:  # later runs have not written over earlier answers
        assert np.array_equal(output[:, 0].clip(0, 1), engine.run(batch))


def test_buffers_of_old_shapes_go(tmp_path) -> None:
    engine = load(write_model(tmp_path / "tiny.onnx"))
    bound = BoundRuns(engine._session, "input", "output", "cpu")
    for number in range(MAX_SHAPES + 3):
        size = 32, 32 * (number + 1)
        bound.run(make_batch(1, size), size)
    assert len(bound._bound) == MAX_SHAPES


def test_running_out_of_memory_is_told_and_half_as_many_run_afterwards(tmp_path) -> None:
    engine = load(write_hungry_model(tmp_path / "hungry.onnx"), max_batch_size=16)
    before = engine.run(make_batch(1))
    with pytest.raises(InferenceError) as caught:
        engine.run(make_batch(16))
    assert caught.value.kind == OUT_OF_MEMORY
    engine.recover()
    assert engine.max_batch_size == 8
    assert np.array_equal(engine.run(make_batch(1)), before)


def test_an_engine_that_cannot_be_loaded_again_tries_with_each_run(tmp_path) -> None:
    path = write_model(tmp_path / "tiny.onnx")
    engine, content = load(path), path.read_bytes()
    path.write_bytes(content[:-9])
    with pytest.raises(ModelError):
        engine.recover()
    with pytest.raises(InferenceError) as caught:
        engine.run(make_batch(1))
    assert caught.value.kind == "device"
    path.write_bytes(content)
    assert engine.run(make_batch(1)).shape == (1, 32, 64)


def test_a_gpu_is_warmed_up_for_all_common_shapes() -> None:
    assert list_warm_sizes(FAKE_INFO, CPU) == [(256, 256)]
    sizes = list_warm_sizes(replace(FAKE_INFO, ref_size=320), CUDA)
    assert {(320, 320), (320, 576), (576, 320), (320, 416), (480, 320)} <= set(sizes)
    both = list_warm_sizes(replace(FAKE_INFO, ref_size=320, photo_ref_sizes=(256, 384)), CUDA)
    assert {*sizes, (256, 448), (384, 672)} < {*both}
    assert list_warm_sizes(replace(FAKE_INFO, fixed_size=(96, 64)), CUDA) == [(96, 64)]


def run_all(engine, count: int) -> tuple[list, Metrics]:
    async def main() -> tuple[list, Metrics]:
        metrics = Metrics()
        batcher = Batcher(engine, metrics, Health(started=True))
        pictures = make_batch(count, (32, 32))
        waiting = [batcher.infer(one, timeout_s=60) for one in pictures]
        tasks = [asyncio.ensure_future(one) for one in waiting]
        await asyncio.sleep(0)
        batcher.start()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.aclose()
        return answers, metrics

    return asyncio.run(main())


def test_a_batch_too_large_is_run_in_halves_and_later_ones_are_smaller(caplog) -> None:
    def refuse_many(batch: np.ndarray) -> np.ndarray:
        if len(batch) > 2:
            raise InferenceError(OUT_OF_MEMORY, "CUDA failure 2: out of memory")
        return opaque(batch)

    engine = FakeEngine(refuse_many, max_batch_size=8)
    with caplog.at_level(logging.WARNING):
        answers, metrics = run_all(engine, 8)
    assert [matte.alpha.shape for matte in answers] == [(32, 32)] * 8
    assert [shape[0] for shape in engine.shapes] == [8, 4, 2, 2, 2, 2]
    assert engine.max_batch_size == 2
    failures = {"kind": OUT_OF_MEMORY}
    name = "matting_inference_failures_total"
    assert metrics.registry.get_sample_value(name, failures) == 2
    assert "memory of the network ran out" in caplog.text


def test_one_picture_is_tried_again_once_when_memory_has_been_given_back() -> None:
    left = [2]

    def refuse(batch: np.ndarray) -> np.ndarray:
        left[0] -= 1
        if left[0] >= 0:
            raise InferenceError(OUT_OF_MEMORY, "Failed to allocate memory")
        return opaque(batch)

    engine = FakeEngine(refuse)
    answers, _ = run_all(engine, 2)
    assert [type(one).__name__ for one in answers] == ["InferenceFailed", "Matte"]
    assert isinstance(answers[0], InferenceFailed)
