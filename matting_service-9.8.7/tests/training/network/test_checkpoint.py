import hashlib
import io
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from golden_weights import make_golden_arrays, make_golden_state

from training.network.checkpoint import (
    CheckpointError,
    load_model,
    read_checkpoint,
    save_checkpoint,
)
from training.network.modnet import MODNet

ALIAS = "lr_branch.backbone."
STEM = "backbone.model.features.0.0.weight"


@pytest.fixture(scope="module")
def state():
    return make_golden_state()


def drop_alias(state):
    return {key: value for key, value in state.items() if not key.startswith(ALIAS)}


def assert_model_has_state(model, state):
    loaded = model.state_dict()
    assert list(loaded) == list(state)
    for key, value in state.items():
        assert torch.equal(loaded[key], value), key
    assert len({value.data_ptr() for value in loaded.values()}) == 439
    assert not model.training


def save_bytes(content, is_legacy=False):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not is_legacy)
    return buffer.getvalue()


def make_tiny():
    torch.manual_seed(0)
    return MODNet(width=0.125, hr_channels=4)


def refuse(path, content=None):
    """Return the message with which a file is refused, after what all messages have in common."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_official_file_loads(tmp_path, state):
    path = tmp_path / "modnet.ckpt"
    official = OrderedDict((f"module.{key}", value) for key, value in state.items())
    path.write_bytes(save_bytes(official, is_legacy=True))
    assert_model_has_state(load_model(path), state)
    assert read_checkpoint(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_plain_state_dict_loads(tmp_path, state, suffix):
    path = tmp_path / f"modnet{suffix}"
    torch.save(state, path)
    assert_model_has_state(load_model(path), state)


def test_state_without_second_backbone_name_loads(tmp_path, state):
    torch.save(drop_alias(state), tmp_path / "modnet.pt")
    assert_model_has_state(load_model(tmp_path / "modnet.pt"), state)


def test_state_with_second_backbone_name_only_loads(tmp_path, state):
    rest = {key: value for key, value in state.items() if not key.startswith("backbone.")}
    torch.save(rest, tmp_path / "modnet.pt")
    assert_model_has_state(load_model(tmp_path / "modnet.pt"), state)


def test_npz_with_float16_and_without_counters_loads(tmp_path):
    arrays = make_golden_arrays()
    for key in [key for key in arrays if key.endswith("num_batches_tracked")]:
        del arrays[key]
    arrays = {k: v.astype(np.float16) if v.ndim > 1 else v for k, v in arrays.items()}
    np.savez(tmp_path / "seed.npz", **arrays)
    loaded = load_model(tmp_path / "seed.npz").state_dict()
    for key, array in arrays.items():
        assert loaded[key].dtype == torch.float32
        np.testing.assert_array_equal(loaded[key], array.astype(np.float32))


def test_wrapped_checkpoint_restores_architecture(tmp_path):
    model = make_tiny()
    save_checkpoint(tmp_path / "tiny.pt", model, epoch=3, optimizer={"lr": 0.1})
    loaded = load_model(tmp_path / "tiny.pt")
    assert loaded.architecture == model.architecture
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_missing_file_and_folder_are_refused(tmp_path):
    assert refuse(tmp_path / "none.ckpt") == "No such file or directory"
    assert refuse(tmp_path) == "Is a directory"


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(100), b"hello", b"PK\x03"])
def test_other_file_types_are_refused(tmp_path, content):
    assert refuse(tmp_path / "photo.ckpt", content).startswith("not a checkpoint")


def test_zip_of_something_else_is_refused(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert refuse(tmp_path / "a.pt").startswith("not a checkpoint")


def test_files_cut_short_are_refused(tmp_path):
    tiny = make_tiny()
    record = {"model": tiny.state_dict(), "architecture": tiny.architecture}
    arrays = io.BytesIO()
    np.savez(arrays, **{key: value.numpy() for key, value in tiny.state_dict().items()})
    for content in (save_bytes(record), save_bytes(record, is_legacy=True), arrays.getvalue()):
        for kept in (0.01, 0.3, 0.9, 0.999):
            message = refuse(tmp_path / "cut.ckpt", content[: int(len(content) * kept)])
            assert message.startswith(("broken or cut short", "refused, it is broken")), kept


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    target = tmp_path / "made"

    class Attack:
        def __reduce__(self):
            return (open, (str(target), "w"))

    message = refuse(tmp_path / "attack.pt", save_bytes({"weight": Attack()}))
    assert message == "refused, it is broken or holds more than tensors"
    assert not target.exists()
    refuse(tmp_path / "attack.pkl", pickle.dumps(Attack()))
    assert not target.exists()


def test_npz_with_objects_is_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", weight=np.array([{}, None], dtype=object))
    assert refuse(tmp_path / "objects.npz").startswith("broken or cut short")


def test_missing_key_is_named(tmp_path, state):
    without = drop_alias(state)
    del without["hr_branch.conv_hr.1.layers.0.bias"], without["f_branch.conv_f.1.layers.0.bias"]
    message = refuse(tmp_path / "a.pt", save_bytes(without))
    assert message == "missing key hr_branch.conv_hr.1.layers.0.bias"


def test_unexpected_key_is_named(tmp_path, state):
    extra = drop_alias(state) | {"e_aspp.weight": torch.zeros(1)}
    assert refuse(tmp_path / "a.pt", save_bytes(extra)) == "unexpected key e_aspp.weight"


def test_shape_mismatch_names_both_shapes(tmp_path, state):
    other = drop_alias(state) | {STEM: torch.zeros(32, 4, 3, 3)}
    expected = f"{STEM} has shape (32, 4, 3, 3), expected (32, 3, 3, 3)"
    assert refuse(tmp_path / "a.pt", save_bytes(other)) == expected


def test_other_networks_are_refused_by_their_first_missing_key(tmp_path):
    state = torch.nn.Linear(2, 2).state_dict()
    assert refuse(tmp_path / "a.pt", save_bytes(state)) == f"missing key {STEM}"


def test_two_values_for_one_backbone_tensor_are_refused(tmp_path, state):
    other = state | {f"{ALIAS}{STEM.removeprefix('backbone.')}": torch.zeros(32, 3, 3, 3)}
    assert "differs from" in refuse(tmp_path / "a.pt", save_bytes(other))


def test_nan_is_refused(tmp_path, state):
    broken = drop_alias(state) | {STEM: torch.full((32, 3, 3, 3), torch.nan)}
    assert refuse(tmp_path / "a.pt", save_bytes(broken)) == f"{STEM} holds NaN or infinity"


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {1: torch.zeros(1)}, torch.zeros(3)])
def test_contents_that_are_no_state_dict_are_refused(tmp_path, content):
    message = refuse(tmp_path / "a.pt", save_bytes(content))
    assert "instead of a state dict" in message or "is not a tensor" in message


@pytest.mark.parametrize("architecture", [{"depth": 3}, {"width": "x"}, {"hr_channels": 0}])
def test_unusable_architecture_is_refused(tmp_path, architecture):
    record = {"model": {}, "architecture": architecture}
    assert "unusable architecture" in refuse(tmp_path / "a.pt", save_bytes(record))
