import csv
import json

import av
import numpy as np
import pytest
from PIL import Image

from tests.onnx_files import write_model
from training.commands.evaluate import main, thin_out
from training.data.pairs import Pair
from training.evaluation import metrics
from training.evaluation.measure import predict_alpha
from training.evaluation.predictor import Placement, open_predictor
from training.network.checkpoint import save_checkpoint
from training.network.fast import FastNet
from training.network.modnet import MODNet

GREYS = {"train/a": 0, "train/b": 102, "val/c": 153, "val/d": 255}


@pytest.fixture
def network(tmp_path):
    """A network whose matte is the mean of the three colours."""
    return write_model(tmp_path / "grey.onnx")


@pytest.fixture
def data(tmp_path):
    """Grey photos; each true alpha is 255 on the left half, 0 on the right."""
    folder = tmp_path / "data"
    for index, (id, grey) in enumerate(GREYS.items()):
        save_pair(folder, id, np.full((64, 96 + 2 * index, 3), grey, np.uint8))
    rows = [f"{id},{id.split('/')[0]}" for id in GREYS]
    (folder / "manifest.csv").write_text("\n".join(["id,split", *rows]) + "\n")
    return folder


def save_pair(folder, id, image):
    alpha = np.zeros(image.shape[:2], np.uint8)
    alpha[:, : image.shape[1] // 2] = 255
    (folder / id).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / f"{id}.jpg", quality=95)
    Image.fromarray(alpha).save(folder / f"{id}.png")


def run(*arguments):
    return main([*map(str, arguments), "--threads", "1"])


def refuse(capsys, *arguments):
    """Return the line with which the command refuses."""
    assert run(*arguments) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == ""
    return line


def read_table(text):
    """Return the rows of a Markdown table by their first cell."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(set(cell) <= set("-:") for cell in rows[1])
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def test_figures_are_those_of_the_mattes(capsys, tmp_path, network, data):
    out = {name: tmp_path / f"figures.{name}" for name in ("csv", "json")}
    assert run(network, data, "--csv", out["csv"], "--json", out["json"]) == 0
    # Grey v against 1 on one half and 0 on the other: MAD is 1/2 whatever v is.
    expected = {id: np.mean([(1 - v / 255) ** 2, (v / 255) ** 2]) for id, v in GREYS.items()}
    content = json.loads(out["json"].read_text())
    assert [record["id"] for record in content["results"]] == list(GREYS)
    for record in content["results"]:
        assert record["mad"] == pytest.approx(0.5, abs=1e-3)
        assert record["mse"] == pytest.approx(expected[record["id"]], abs=1e-3)
        assert record["sad"] == pytest.approx(record["mad"] * 64 * record["width"] / 1000)
    assert content["mean"]["mse"] == pytest.approx(np.mean(list(expected.values())), abs=1e-3)
    assert content["model"] == "grey.onnx" and content["ref_size"] == 64

    with out["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [*GREYS, "mean"]
    assert float(rows[-1]["mse"]) == content["mean"]["mse"]

    table = read_table(capsys.readouterr().out)
    assert list(table) == ["grey.onnx", "- train", "- val"]
    assert table["grey.onnx"]["photos"] == "4" and table["- val"]["photos"] == "2"
    assert table["grey.onnx"]["MSE"] == f"{content['mean']['mse']:.5f}"


def test_mattes_are_measured_at_the_size_of_the_photo(tmp_path, network, portrait):
    predictor = open_predictor(network, Placement(threads=1))
    image = portrait[:300, :401]
    alpha = predict_alpha(predictor, image, 64)
    assert alpha.shape == (300, 401) and alpha.dtype == np.float32
    assert 0 <= alpha.min() and alpha.max() <= 1
    grey = image.mean(axis=2).astype(np.float32) / 255
    assert metrics.mad(alpha, grey) < 0.1


def test_split_and_limit_choose_photos(capsys, tmp_path, network, data):
    out = tmp_path / "a.json"
    assert run(network, data, "--split", "val", "--limit", 1, "--json", out) == 0
    assert [record["id"] for record in json.loads(out.read_text())["results"]] == ["val/c"]
    pairs = [Pair(str(i), data, data, "val") for i in range(10)]
    assert [pair.id for pair in thin_out(pairs, 4)] == ["0", "2", "5", "7"]
    assert thin_out(pairs, 20) == thin_out(pairs, None) == pairs


def test_protocol_of_ppm_100(capsys, tmp_path, network):
    folder = tmp_path / "ppm"
    for name in ("image", "matte"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(np.full((600, 700, 3), 255, np.uint8)).save(folder / "image" / "1.jpg")
    Image.fromarray(np.full((600, 700), 255, np.uint8)).save(folder / "matte" / "1.png")
    out = tmp_path / "a.json"
    assert run(network, folder, "--protocol", "ppm", "--json", out) == 0
    content = json.loads(out.read_text())
    assert content["ref_size"] == 512 and content["mean"]["mad"] < 1e-3
    table = read_table(capsys.readouterr().out)
    paper = table["PPM-100, the paper's figures"]
    assert (paper["MSE"], paper["MAD"], paper["SAD"]) == ("0.00440", "0.00860", "-")
    line = refuse(capsys, network, folder, "--protocol", "ppm", "--ref-size", 320)
    assert "--ref-size 512" in line


def test_sheet_shows_the_worst_first(capsys, tmp_path, network, data):
    save_pair(data, "val/e", np.zeros((64, 80, 3), np.uint8))
    Image.fromarray(np.full((64, 80), 255, np.uint8)).save(data / "val/e.png")  # quite wrong
    with (data / "manifest.csv").open("a") as file:
        file.write("val/e,val\n")
    out = tmp_path / "sheet.png"
    assert run(network, data, "--sheet", out) == 0
    with Image.open(out) as sheet:
        pixels = np.array(sheet.convert("L"))
    assert pixels.shape[0] == 5 * (240 + 22 + 6)
    first = pixels[40:240]  # photo black, alpha white, matte black, difference white
    assert [first[:, 6 + i * 306 + 150].mean() for i in range(4)] == [0, 255, 0, 255]


def test_checkpoint_with_trimap(capsys, tmp_path, data):
    path = tmp_path / "four.pt"
    save_checkpoint(path, MODNet(in_channels=4, width=0.125, hr_channels=4))
    assert run(path, data, "--trimap", "--ref-size", 64) == 0
    assert read_table(capsys.readouterr().out)["four.pt"]["photos"] == "4"
    assert "with --trimap" in refuse(capsys, path, data)


def test_trimap_is_fed_in_the_range_of_the_image(tmp_path, data):
    seen = []

    class Recorder:
        path, ref_size, in_channels, runs_on = tmp_path, 64, 4, ""

        def run(self, batch):
            seen.append(batch)
            return np.zeros((1, *batch.shape[2:]), np.float32)

    trimap = np.repeat(np.uint8([[0, 1, 2, 2]]), 16, axis=1).repeat(64, axis=0)
    predict_alpha(Recorder(), np.zeros((64, 64, 3), np.uint8), 64, trimap)
    assert seen[0].shape == (1, 4, 64, 64)
    np.testing.assert_array_equal(np.unique(seen[0][0, 3, :, :16]), [-1])
    np.testing.assert_array_equal(np.unique(seen[0][0, 3]), [-1, 0, 1])


def test_matte_that_is_no_number_is_refused(capsys, tmp_path, data):
    path = write_model(tmp_path / "nan.onnx", "not-finite")
    assert "not numbers" in refuse(capsys, path, data)


def test_what_cannot_be_done_is_one_line(capsys, tmp_path, network, data):
    assert "no such folder" in refuse(capsys, network, tmp_path / "none")
    assert "No such file" in refuse(capsys, tmp_path / "none.onnx", data)
    assert "without --trimap" in refuse(capsys, network, data, "--trimap")
    late = tmp_path / "none" / "a.json"
    assert str(late) in refuse(capsys, network, data, "--json", late)
    assert "is a folder" in refuse(capsys, network, data, "--sheet", tmp_path)
    assert "for photos" in refuse(capsys, network, data, "--clips", "--sheet", tmp_path / "a.png")
    (data / "val/c.png").unlink()
    assert "c.png" in refuse(capsys, network, data)


def test_split_without_photos_is_one_line(capsys, network, data):
    (data / "manifest.csv").write_text("id,split\ntrain/a,train\n")
    assert "no photos of the split val" in refuse(capsys, network, data, "--split", "val")


@pytest.mark.parametrize("option, value", [("--limit", "0"), ("--ref-size", "x"), ("--split", "a")])
def test_wrong_options_are_usage_errors(capsys, network, data, option, value):
    with pytest.raises(SystemExit) as caught:
        run(network, data, option, value)
    assert caught.value.code == 2


def write_clip(path, greys, size=(64, 96)):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = "bgr0"
        for grey in greys:
            image = np.full((*size, 3), grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def test_clips(capsys, tmp_path, network):
    folder, out = tmp_path / "clips", tmp_path / "a.json"
    write_clip(folder / "clip" / "one.mkv", [51, 102, 51])
    write_clip(folder / "matte" / "one.mkv", [51, 51, 51])
    assert run(network, folder, "--clips", "--json", out) == 0
    (record,) = json.loads(out.read_text())["results"]
    assert record["mad"] == pytest.approx(0.2 / 3, abs=1e-3)
    assert record["dtssd"] == pytest.approx(20, abs=0.1)
    assert record["messddt"] == pytest.approx(4, abs=0.1)
    assert record["flicker"] == pytest.approx(20, abs=0.1)
    assert (record["width"], record["height"]) == (96, 64)
    assert read_table(capsys.readouterr().out)["grey.onnx"]["dtSSD"].startswith("20.0")


def test_clips_that_do_not_pair_are_one_line(capsys, tmp_path, network):
    folder = tmp_path / "clips"
    assert "clip: no such folder" in refuse(capsys, network, folder, "--clips")
    write_clip(folder / "clip" / "one.mkv", [51, 102])
    write_clip(folder / "matte" / "two.mkv", [51, 51])
    assert "has no" in refuse(capsys, network, folder, "--clips")
    (folder / "matte" / "two.mkv").rename(folder / "matte" / "one.mkv")
    write_clip(folder / "clip" / "one.mkv", [51, 102, 51])
    assert "not as many frames" in refuse(capsys, network, folder, "--clips")
    write_clip(folder / "matte" / "one.mkv", [51] * 3, (32, 96))
    assert "not the size" in refuse(capsys, network, folder, "--clips")
    for name in ("clip", "matte"):
        write_clip(folder / name / "one.mkv", [51])
    assert "fewer than two frames" in refuse(capsys, network, folder, "--clips")
    (folder / "clip" / "one.mkv").write_text("no clip")
    assert "not a readable clip" in refuse(capsys, network, folder, "--clips")


def test_each_folder_has_a_table_of_its_own(capsys, tmp_path, network, data):
    other = tmp_path / "other"
    save_pair(other, "x", np.full((64, 64, 3), 255, np.uint8))
    out = tmp_path / "a.json"
    assert run(network, data, other, "--split", "all", "--json", out) == 0
    printed = capsys.readouterr().out
    first, second = printed.split("other:\n")
    assert first.startswith("data:\n") and "- train" in first and "- train" not in second
    assert read_table(first)["grey.onnx"]["photos"] == "4"
    assert read_table(second)["grey.onnx"]["photos"] == "1"
    content = json.loads(out.read_text())
    assert [r["id"] for r in content["results"]] == [*(f"data/{id}" for id in GREYS), "other/x"]
    assert content["means"]["other"]["mse"] == pytest.approx(0.5, abs=1e-3)
    assert content["mean"]["mse"] == np.mean([r["mse"] for r in content["results"]])


def test_fast_network_is_measured_as_well(capsys, tmp_path, data):
    save_checkpoint(tmp_path / "fast.pt", FastNet(width=0.1))
    assert run(tmp_path / "fast.pt", data, "--ref-size", 32, "--limit", 1) == 0
    assert read_table(capsys.readouterr().out)["fast.pt"]["photos"] == "1"
