"""Configurations, data sets and models, and the lines between window and worker."""

import json
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import torch

from bad import READ, kind
from conftest import make_dataset, write_image
from DiffSegLib.models import store
from tiny_models import write_model

DEEP = "[" * 100_000 + "]" * 100_000
NOT_JSON = {"empty": "", "no JSON": "{", "a list": "[1, 2]", "a number": "17", "nested 100,000 deep": DEEP}
NOT_JSON |= {"of another encoding": "ÿþ", "a number of 5,000 digits": "9" * 5000}


def text_file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="latin-1")
    return path


for title, text in NOT_JSON.items():
    kind("configuration", title)(lambda folder, text=text: text_file(folder, "config.json", text))

kind("configuration", "a key twice", words="'batch' occurs twice")(
    lambda folder: text_file(folder, "config.json", '{"training": {"batch": 2, "batch": 3}}')
)
kind("configuration", "a byte order mark", outcome=READ)(
    lambda folder: text_file(folder, "config.json", "\xef\xbb\xbf{}")
)

for title, change, words in (
    ("an unknown section", {"optimizer": {}}, "optimizer"),
    ("an unknown key", {"training": {"lr": 1e-3}}, "lr"),
    ("a text for a number", {"training": {"batch": "two"}}, "batch"),
    ("a number for a list", {"data": {"patch": 64}}, "patch"),
    ("a fraction for a whole number", {"training": {"batch": 2.5}}, "batch"),
    ("a truth value for a number", {"training": {"batch": True}}, "batch"),
    ("NaN", {"training": {"learning_rate": float("nan")}}, "learning_rate"),
    ("infinity", {"augment": {"rotation": float("inf")}}, "rotation"),
    ("a negative batch", {"training": {"batch": -1}}, "batch"),
    ("more voxels in a patch than there are", {"data": {"patch": [100_000] * 3}}, "patch"),
    ("an unknown strategy", {"diffusion": {"strategy": "magic"}}, "strategy"),
    ("patch and strides of other dimensions", {"data": {"patch": [64, 64]}}, "patch|strides|axes"),
    ("another version", {"version": 99}, "version"),
    ("nothing where a section belongs", {"network": None}, "network"),
    ("two million channels", {"network": {"channels": [2_000_000] * 4}}, "channels"),
):
    kind("configuration", title, words=words)(
        lambda folder, change=change: text_file(folder, "config.json", json.dumps({"version": 1, **change}))
    )


def described(folder: Path, **change: object) -> Path:
    """A data set whose description differs."""
    make_dataset(folder, 2)
    path = folder / "dataset.json"
    data = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))
    return folder


for title, text in NOT_JSON.items():

    @kind("data set", f"its description is {title}", words="dataset.json")
    def _(folder, text=text):
        make_dataset(folder, 2)
        text_file(folder, "dataset.json", text)
        return folder


for title, change, words in (
    ("no list of cases", {"training": None}, "training"),
    ("an empty list of cases", {"training": []}, ""),
    ("cases that are texts", {"training": ["a"]}, "layout"),
    ("a case without label", {"training": [{"image": "imagesTr/blob_00.nii.gz"}]}, "label"),
    ("no labels", {"labels": None}, "labels"),
    ("labels that are a list", {"labels": ["a", "b"]}, "layout"),
    ("no modality", {"modality": None}, "modality"),
    ("an image above the folder", {"training": [{"image": "../x.nii.gz", "label": "y.nii.gz"}]}, "in its folder"),
    ("an image anywhere", {"training": [{"image": "/etc/passwd", "label": "y.nii.gz"}]}, "in its folder"),
    ("a label that is a number", {"training": [{"image": "imagesTr/blob_00.nii.gz", "label": 3}]}, "in its folder"),
    ("a case twice", {"training": [{"image": "imagesTr/blob_00.nii.gz", "label": "labelsTr/blob_00.nii.gz"}] * 2}, ""),
):
    kind("data set", title, words=words)(lambda folder, change=change: described(folder, **change))


for title, train, words in (
    ("lists", [["blob_00"]], "train names cases that the data set lacks"),
    ("a case twice", ["blob_00", "blob_00"], "train names blob_00 twice"),
    ("a case that is not there", ["blob_00", "blob_7"], "lacks: blob_7"),
    ("a text for the cases", "blob_00", "needs a list 'train'"),
):

    @kind("data set", f"its split has {title}", words=words)
    def _(folder, train=train):
        make_dataset(folder, 3)
        text_file(folder, "splits.json", json.dumps({"train": train, "val": ["blob_01"]}))
        return folder


for title, name, text in (
    ("dataset.json, as the Decathlon has it", "dataset.json", '{"0": "none", "1": "liver", "01": "tumour"}'),
    ("dataset.json, as nnU-Net has it", "nnunet", '{"background": 0, "liver": 1, "tumour": 1}'),
    ("labels.json", "labels.json", '{"liver": 1, "tumour": 1}'),
    ("labels.csv", "labels.csv", "value,name\n1,liver\n1,tumour\n"),
):

    @kind("data set", f"one value with two names in {title}", words="label 1 has two names: 'liver' and 'tumour'")
    def _(folder, name=name, text=text):
        if name == "dataset.json":
            return described(folder, labels=json.loads(text))
        if name == "nnunet":
            more = {"channel_names": {"0": "MRI"}, "file_ending": ".nii.gz", "training": None, "modality": None}
            described(folder, labels=json.loads(text), **more)
            for image in (folder / "imagesTr").iterdir():
                image.rename(str(image).replace(".nii.gz", "_0000.nii.gz"))
            return folder
        make_dataset(folder, 2)
        (folder / "dataset.json").unlink()
        return text_file(folder, name, text).parent


@kind("data set", "an empty folder", words="known layout")
def _(folder):
    return folder


@kind("data set", "no folder", words="no such folder")
def _(folder):
    return folder / "nowhere"


@kind("data set", "a label on another grid", words="grid of its image")
def _(folder):
    make_dataset(folder, 3)
    write_image(folder / "labelsTr" / "blob_01.nii.gz", np.ones((5, 5, 5), np.uint8))
    return folder


for title, text in NOT_JSON.items():

    @kind("data set", f"its split is {title}", words="splits.json")
    def _(folder, text=text):
        make_dataset(folder, 4)
        text_file(folder, "splits.json", text)
        return folder


def model(folder: Path) -> Path:
    return write_model(folder / "model.safetensors")


def card_changed(folder: Path, change: dict) -> Path:
    """A model whose card differs."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = model(folder)
    with safe_open(path, framework="pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        card = json.loads(file.metadata()["diffseg"])
    card = {key: value for key, value in {**card, **change}.items() if value != "gone"}
    save_file(weights, path, {"diffseg": json.dumps(card)})
    return path


@kind("model", "a good one", READ)
def _(folder):
    return model(folder)


@kind("model", "cut in the middle")
def _(folder):
    path = model(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@kind("model", "cut within its header")
def _(folder):
    path = model(folder)
    path.write_bytes(path.read_bytes()[:100])
    return path


@kind("model", "a header of 2^60 bytes", words="no model file")
def _(folder):
    path = model(folder)
    path.write_bytes(struct.pack("<Q", 1 << 60) + path.read_bytes()[8:])
    return path


@kind("model", "a pickle by that name", words="no model file")
def _(folder):
    path = folder / "model.safetensors"
    path.write_bytes(pickle.dumps({"weights": np.zeros(3)}))
    return path


@kind("model", "of torch.save", words="no model file")
def _(folder):
    path = folder / "model.safetensors"
    torch.save({"weights": torch.zeros(3)}, path)
    return path


@kind("model", "an image by that name", words="no model file")
def _(folder):
    image = write_image(folder / "scan.nii.gz", np.ones((4, 4, 4), np.float32))
    return Path(shutil.move(image, folder / "model.safetensors"))


@kind("model", "an empty file", words="no model file")
def _(folder):
    return text_file(folder, "model.safetensors", "")


@kind("model", "another program's weights", words="no DiffSeg card")
def _(folder):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, folder / "model.safetensors")
    return folder / "model.safetensors"


for title, value, is_sealed, words in (
    ("weights that are NaN", float("nan"), False, "not numbers"),
    ("weights that are others than its checksum says", 0.5, True, "not those that were written"),
):

    @kind("model", title, words=words)
    def _(folder, value=value, is_sealed=is_sealed):
        from safetensors import safe_open
        from safetensors.torch import save_file

        path = model(folder)
        with safe_open(path, framework="pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = {key: text for key, text in file.metadata().items() if is_sealed or key != store.SEAL}
        next(iter(weights.values()))[:] = value
        save_file(weights, path, metadata)
        return path


MEMBER = {"network": {"name": "unet", "channels": [8, 8], "strides": [[2, 2, 2]]}, "strategy": "recycling"}


def coded(meaning: str) -> dict:
    code = ["SCT", "10200004", meaning]
    return {"labels": [{"value": 1, "name": "first", "type": code}, {"value": 2, "name": "second"}]}


for title, change, words in (
    ("a card of another schema", {"schema": 99}, "schema"),
    ("a card without labels", {"labels": "gone"}, "labels"),
    ("a card with labels that are texts", {"labels": ["a", "b"]}, ""),
    ("a card with a label of value 300", {"labels": [{"value": 300, "name": "a"}]}, "300"),
    ("a card with an unknown key", {"run": "rm -rf"}, "run"),
    ("a card with a code that begins another tag", coded("Liver|Segmentation.Status:completed"), "a code with 'Liver"),
    ("a card with a code of two parts", coded("Liver^SCT"), "a code with 'Liver"),
    ("a card with a code that no file holds", coded("Liver\ud800"), "a code with 'Liver"),
    ("a card of a far larger network", {"network": {"name": "unet", "channels": [9000] * 4}}, ""),
    ("a card of thousands of networks", {"members": [MEMBER] * 5000}, "has 5000 members; at most 100"),
    ("a card that fits other weights", {"network": {"name": "unet", "channels": [8, 8], "strides": [[2, 2, 2]]}}, ""),
    ("a card with a name that is a list", {"name": ["a"]}, "name"),
    ("a card without channels", {"channels": []}, "channels"),
    ("a card with an impossible field of view", {"expects": {"field_of_view_mm": [-1, 0, 1]}}, "field_of_view"),
):
    kind("model", title, words=words)(lambda folder, change=change: card_changed(folder, change))


for title, text in {**NOT_JSON, "unknown": '{"do": "dance", "id": "1"}', "without a task": '{"id": "1"}'}.items():
    kind("request", title)(lambda folder, text=text: text_file(folder, "line", text))
for title, body in {
    "a job without an image": {"model": "m"},
    "a job with an unknown key": {"run": "rm"},
    "a job with a matrix of texts": {"model": "m", "image": "i", "ijk_to_lps": "abc", "output": "o"},
    "a job with steps of text": {"options": {"steps": "many"}, "model": "m", "image": "i", "output": "o"},
    "a job whose image is no array": {"model": "hippocampus", "image": "/etc/passwd", "output": "/tmp"},
    "a job without an id": {"id": None},
}.items():
    matrix = {"ijk_to_lps": np.eye(4).tolist()}
    line = json.dumps({"do": "segment", "id": "1", **matrix, **body})
    kind("request", title)(lambda folder, line=line: text_file(folder, "line", line))
