import csv
import io
import json
import math

import pytest

from enlca.evaluation.report import ImageScore, Protocol, Report

COLUMNS = "dataset,image,scale,model,protocol,psnr_y,ssim_y,seconds,height,width"


def row(dataset, image, psnr_y, ssim_y):
    return ImageScore(
        dataset=dataset,
        image=image,
        scale=3,
        model="tiny",
        protocol="whole",
        psnr_y=psnr_y,
        ssim_y=ssim_y,
        seconds=0.25,
        height=17,
        width=19,
    )


def report(*rows):
    return Report(
        protocol=Protocol(name="whole", scale=3, lr_source="files"), model={"name": "tiny"}, images=rows
    )


ROWS = (row("Set5", "a", 30.0, 0.9), row("Kodak, half", "b", 20.5, 0.5), row("Set5", "c", 31.0, 0.7))


def test_the_table_has_the_contracted_columns_and_a_row_per_picture():
    lines = report(*ROWS).to_csv().splitlines()
    assert lines[0] == COLUMNS
    assert lines[1] == "Set5,a,3,tiny,whole,30.0,0.9,0.25,17,19"
    assert [line["dataset"] for line in csv.DictReader(lines)] == ["Set5", "Kodak, half", "Set5"]


def test_the_json_has_the_contracted_entries():
    body = json.loads(report(*ROWS).to_json())
    assert list(body) == ["protocol", "model", "datasets", "images"]
    assert body["model"] == {"name": "tiny"}
    assert body["datasets"] == {
        "Set5": {"psnr_y": 30.5, "ssim_y": pytest.approx(0.8), "n": 2},
        "Kodak, half": {"psnr_y": 20.5, "ssim_y": 0.5, "n": 1},
    }
    assert [",".join(image) for image in body["images"]] == [COLUMNS] * 3
    assert body["images"][1]["psnr_y"] == 20.5


def test_the_protocol_is_in_every_json():
    protocol = json.loads(report(*ROWS).to_json())["protocol"]
    assert protocol["name"] == "whole"
    assert protocol["scale"] == protocol["shave"] == 3
    assert protocol["lr_source"] == "files"
    assert protocol.keys() >= {"hr", "lr", "sr", "luma", "psnr", "ssim"}
    assert "65.481" in protocol["luma"]


def test_an_infinite_score_is_written_as_inf_and_read_back_as_infinity():
    endless = report(row("Set5", "same", math.inf, 1.0), row("Set5", "b", 30.0, 0.9))

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    body = json.loads(endless.to_json(), parse_constant=refuse)
    assert float(body["images"][0]["psnr_y"]) == math.inf
    assert float(body["datasets"]["Set5"]["psnr_y"]) == math.inf
    assert body["datasets"]["Set5"]["ssim_y"] == pytest.approx(0.95)
    [first, _] = csv.DictReader(io.StringIO(endless.to_csv()))
    assert float(first["psnr_y"]) == math.inf
    assert "| inf | 0.9500 | 2 |" in endless.to_markdown()


def test_the_means_are_shown_as_a_table():
    lines = report(*ROWS).to_markdown().splitlines()
    assert lines[2:] == [
        "| Set5 | x3 | tiny | 30.500 | 0.8000 | 2 |",
        "| Kodak, half | x3 | tiny | 20.500 | 0.5000 | 1 |",
    ]
