"""Networks of others by a card: what a card may say, what a file may hold, how they are run."""

from __future__ import annotations

import os
import pickle
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import helper
from torch import nn

import wsi_engine as we
from tests.support.foreign import (
    ONNX_CARD,
    TORCHSCRIPT_CARD,
    in_onnx,
    interiors_in_onnx,
    onnx_card,
    save_torchscript,
    torchscript_card,
    write_card,
)
from tests.support.runs import write_small_slide
from wsi_engine.cli import main
from wsi_engine.installing import install_command
from wsi_engine.models.foreign import onnx_file
from wsi_engine.models.foreign.model import load_card
from wsi_engine.models.foreign.torchscript_code import CodeError, looked_at, require_arithmetic
from wsi_engine.models.registry import find_model

RUN: dict[str, Any] = {
    "tile_size": 256,
    "tissue": False,
    "measure": (),
    "regions": False,
    "report": False,
}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_slide(tmp_path_factory.mktemp("slide") / "slide.tif")


@pytest.fixture
def tile() -> np.ndarray:
    """Pink with two dark discs, uint8 (1, 64, 64, 3); red, green and blue differ."""
    y, x = np.mgrid[:64, :64]
    image = np.full((64, 64, 3), (220, 160, 190), np.uint8)
    for centre in (18, 44):
        image[np.hypot(y - centre, x - centre) < 10] = (90, 60, 140)
    return image[None]


def refused(path: Path) -> str:
    """Return the one sentence with which a card is refused."""
    with pytest.raises(we.EngineError) as caught:
        find_model(str(path)).load(None).maps(np.full((1, 64, 64, 3), 255, np.uint8))
    message = str(caught.value)
    assert "\n" not in message
    assert not message.endswith(".")
    return message


# A card is a model


@pytest.mark.parametrize("make", [onnx_card, torchscript_card])
def test_a_run_takes_a_card_as_text_and_as_path(slide, tmp_path, make):
    card = make(tmp_path / "net")
    named = we.run(slide, tmp_path / "named", model=str(card), **RUN)
    given = we.run(slide, tmp_path / "given", model=card, **RUN)
    assert named.count > 100
    assert named.record.model.name == yaml.safe_load(card.read_text())["name"]
    files = [result.folder / "nuclei.geojson.gz" for result in (named, given)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("make", [onnx_card, torchscript_card])
def test_a_card_keeps_every_promise(tmp_path, make, capsys):
    card = make(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["models", "--check", str(card)])
    assert end.value.code == 0
    assert "keeps every promise" in capsys.readouterr().out


def test_a_card_that_lies_about_its_network_is_found_out(tmp_path, capsys):
    class Wide(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            near = torch.nn.functional.avg_pool2d(image[:, :1], 3, 1, 1)
            far = torch.nn.functional.avg_pool2d(image[:, :1], 161, 1, 80)
            return torch.sigmoid(-8 * near - 40 * far)

    card = torchscript_card(tmp_path, decoder="probability", maps={"nucleus": {}})
    save_torchscript(Wide(), tmp_path / "network.pt")
    with pytest.raises(SystemExit) as end:
        main(["models", "--check", str(card)])
    assert end.value.code == 1
    assert "80 px away, further than receptive_radius_px = " in capsys.readouterr().out


def test_card_and_file_belong_to_the_basis_and_their_place_does_not(slide, tmp_path):
    here = onnx_card(tmp_path / "here")
    assert not we.run(slide, tmp_path / "out", model=here, **RUN).is_earlier
    there = onnx_card(tmp_path / "there")
    assert we.run(slide, tmp_path / "out", model=there, **RUN).is_earlier
    onnx_card(tmp_path / "here", threshold=0.6)
    with pytest.raises(we.EngineError, match="card: "):
        we.run(slide, tmp_path / "out", model=here, **RUN)
    other = interiors_in_onnx()
    other.doc_string = "trained a little longer"
    (tmp_path / "there" / "network.onnx").write_bytes(other.SerializeToString())
    with pytest.raises(we.EngineError, match="weights: "):
        we.run(slide, tmp_path / "out", model=there, **RUN)


def test_workers_find_a_card_whose_path_is_relative(slide, tmp_path, monkeypatch):
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    onnx_card(tmp_path)
    monkeypatch.chdir(tmp_path)
    alone = we.run(slide, tmp_path / "alone", model="card.yaml", **RUN)
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        executor.submit(os.chdir, "/").result()
        split = {"jobs": 1, "executor": executor}
        apart = we.run(slide, tmp_path / "apart", model="card.yaml", **split, **RUN)
    files = [result.folder / "nuclei.geojson.gz" for result in (alone, apart)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_card_names_its_own_file(tmp_path):
    with pytest.raises(we.EngineError, match="names its own file: leave --weights out"):
        find_model(str(onnx_card(tmp_path))).load(tmp_path / "other.onnx")


def test_classes_of_a_card_come_with_their_colours(tmp_path):
    maps = ONNX_CARD["maps"] | {"classes": {"output": "maps", "activation": "softmax"}}
    classes = {"Tumor": [1, 2, 3], "Odd": None}
    entry = find_model(str(onnx_card(tmp_path, maps=maps, classes=classes)))
    assert entry.spec.classes == ("Tumor", "Odd")
    assert entry.spec.class_colours == {"Tumor": (1, 2, 3)}
    assert we.check_model(entry.load(None)) == []


def test_the_cards_that_are_shown_are_cards(tmp_path):
    folder = Path(__file__).parents[1] / "configs"
    shown = sorted(folder.glob("card_*.yaml"))
    assert len(shown) >= 2
    for path in shown:
        copy = tmp_path / path.name
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        (tmp_path / yaml.safe_load(copy.read_text())["file"]).touch()
        assert find_model(str(copy)).spec.halo_px > 0


# What the network sees


def seen(tmp_path: Path, tile: np.ndarray, fields: np.ndarray | None = None, **how: Any):
    """Return what a network is given: it gives it back as the distances of stars."""
    layout = how.get("layout", "NCHW")
    shape = (1, 3, 64, 64) if layout == "NCHW" else (1, 64, 64, 3)
    model = in_onnx([helper.make_node("Identity", ["image"], ["same"])], {}, shape, ["same"])
    (tmp_path / "network.onnx").write_bytes(model.SerializeToString())
    maps = {"probability": {"channels": [0]}, "distances": {}}
    card = write_card(
        tmp_path / "c.yaml", ONNX_CARD, decoder="star-convex", maps=maps, input=how, stride=64
    )
    model = load_card(card)
    return (model if fields is None else model.calibrate(fields)).maps(tile)[0, ..., 1:]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pixels_are_normalised_as_the_card_says(tmp_path, tile, layout):
    given = seen(tmp_path, tile, layout=layout, divide_by=255, mean=[0.1, 0.2, 0.3], std=[1, 2, 4])
    expected = (tile[0] / 255 - (0.1, 0.2, 0.3)) / (1, 2, 4)
    np.testing.assert_allclose(given, expected, atol=1e-6)


def test_blue_comes_first_where_the_card_says_so(tmp_path, tile):
    given = seen(tmp_path, tile, channels="BGR", divide_by=1, mean=[1, 0, 0])
    np.testing.assert_allclose(given, tile[0][..., ::-1] - np.array([1, 0, 0]), atol=1e-5)


def test_percentiles_are_those_of_the_slide_and_not_of_the_tile(tmp_path, tile):
    fields = np.random.default_rng(0).integers(50, 200, (3, 256, 256, 3), np.uint8)
    given = seen(tmp_path, tile, fields, percentiles=[10, 90])
    low, high = np.percentile(fields.reshape(-1, 3), [10, 90], axis=0)
    np.testing.assert_allclose(given, (tile[0] - low) / (high - low), atol=1e-5)
    card = torchscript_card(tmp_path, input={"percentiles": [10, 90]})
    assert load_card(card).calibrate(fields).settings()["red_low"] == low[0]


def test_a_network_of_one_size_only_sees_patches(tmp_path, tile):
    (tmp_path / "network.onnx").write_bytes(interiors_in_onnx((1, 3, 48, 48)).SerializeToString())
    card = write_card(tmp_path / "card.yaml", ONNX_CARD, stride=32)
    assert "takes images of shape 1 x 3 x 48 x 48, not 1 x 3 x 64 x 64" in refused(card)
    card = write_card(tmp_path / "card.yaml", ONNX_CARD, stride=32, patch_px=48)
    whole = load_card(onnx_card(tmp_path / "whole")).maps(tile)
    # 8 px around the middle of a patch hold the receptive field.
    np.testing.assert_allclose(load_card(card).maps(tile), whole, atol=1e-5)


def test_a_border_that_the_network_loses_is_given_to_it_before(tmp_path, tile):
    class Valid(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(-4 * torch.nn.functional.avg_pool2d(image[:, :1], 9, 1))

    save_torchscript(Valid(), tmp_path / "network.pt")
    changes = {"decoder": "probability", "maps": {"nucleus": {}}}
    card = write_card(tmp_path / "card.yaml", TORCHSCRIPT_CARD, **changes)
    assert "has shape (1, 1, 56, 56), and its card says 64 x 64 points" in refused(card)
    card = write_card(tmp_path / "card.yaml", TORCHSCRIPT_CARD, border_px=4, **changes)
    assert load_card(card).maps(tile).shape == (1, 64, 64, 1)


def test_outputs_have_names_in_torchscript_too(tmp_path, tile):
    class Two(nn.Module):
        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"zero": 0 * image, "red": image[:, :1]}

    save_torchscript(Two(), tmp_path / "network.pt")
    for output in ("red", 1):
        maps = {"nucleus": {"output": output, "activation": "sigmoid"}}
        card = write_card(
            tmp_path / "c.yaml", TORCHSCRIPT_CARD, decoder="probability", maps=maps, input={}
        )
        found = load_card(card).maps(tile)[..., 0]
        np.testing.assert_allclose(found, 1 / (1 + np.exp(-(tile[..., 0] / 255))), atol=1e-6)
    maps = {"nucleus": {"output": "blue"}}
    write_card(tmp_path / "c.yaml", TORCHSCRIPT_CARD, decoder="probability", maps=maps)
    assert "no output 'blue' for the map 'nucleus': there are 0, 1, zero, red" in refused(
        tmp_path / "c.yaml"
    )


# What a card must not say


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stride": 0}, "stride: "),
        ({"strides": 8}, "strides: a card has no such field"),
        ({"mpp": None}, "mpp: Field required"),
        ({"mpp": float("inf")}, "mpp: "),
        ({"name": "two words"}, "name: "),
        ({"name": "watershed"}, "'watershed' is a model of this package: choose another"),
        ({"format": "pickle"}, "format: "),
        ({"decoder": "magic"}, "decoder: "),
        ({"decoder": "labels"}, "maps: the decoder labels takes labels, not boundary, interior"),
        ({"grid_px": 3}, "grid_px: 3 does not divide the stride 8"),
        ({"patch_px": 9}, "patch_px: 9 must exceed the stride 8 by an even number"),
        ({"input": {"percentiles": [99, 1]}}, "input: percentiles: give the lower one first"),
        ({"input": {"per_tile": True}}, "input.per_tile: a card has no such field"),
        ({"classes": {"Tumor": [1, 2, 300]}}, "classes.Tumor"),
        ({"file": "../network.onnx"}, "is outside of the card's folder"),
        ({"file": "/etc/hostname"}, "is outside of the card's folder"),
        ({"file": "absent.onnx"}, "there is no such file"),
        ({"maps": {"interior": {"channels": [7]}, "boundary": {}}}, "has 2 channels, and the map"),
        ({"maps": {"interior": {}, "boundary": {}}}, "has 1 channel(s), and output 0 gives 2"),
        ({"grid_px": 4}, "has shape (1, 2, 64, 64), and its card says 16 x 16 points"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_card_is_one_sentence(tmp_path, changes, words):
    (tmp_path / "network.onnx").write_bytes(b"")
    assert words in refused(onnx_card(tmp_path / "net", **changes))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "elsewhere.onnx").write_bytes(interiors_in_onnx().SerializeToString())
    card = write_card((tmp_path / "net.d").with_suffix(".yaml"), ONNX_CARD)
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "network.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    card = write_card(folder / "card.yaml", ONNX_CARD)
    assert "is outside of the card's folder" in refused(card)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [trapped]",
        "name: !!python/object/apply:os.mkdir [trapped]",
        "name: !!python/name:os.system ''",
        "- a\n- list",
        "a: {",
        "\x00",
        "[" * 5000,
        "x" * 200_000,
    ],
    ids=lambda text: text[:30],
)
def test_yaml_that_is_no_card_makes_nothing(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "card.yaml").write_text(text)
    assert "is no card of a model" in refused(tmp_path / "card.yaml")
    assert not (tmp_path / "trapped").exists()


def test_a_card_that_is_not_there(tmp_path):
    assert "cannot be read: No such file" in refused(tmp_path / "card.yaml")


# What a file must not hold


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("make", [onnx_card, torchscript_card])
def test_damaged_and_other_files_are_refused(tmp_path, make):
    card = make(tmp_path)
    file = tmp_path / yaml.safe_load(card.read_text())["file"]
    whole = file.read_bytes()
    trap = Trap(tmp_path / "trapped")
    torch.save({"desc": torch.zeros(3)}, tmp_path / "state.pth")
    for content in (
        b"",
        b"<html>not found</html>",
        whole[: len(whole) // 2],
        whole[:-30],
        pickle.dumps(trap),
        (tmp_path / "state.pth").read_bytes(),
    ):
        file.write_bytes(content)
        assert f"{file.name} is " in refused(card)
    assert not (tmp_path / "trapped").exists()


def with_external_data(nested: bool) -> bytes:
    model = interiors_in_onnx()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    if nested:
        inner = helper.make_node("If", ["red"], ["never"])
        graph = onnx.GraphProto(name="inner", initializer=[tensor])
        inner.attribute.append(helper.make_attribute("then_branch", graph))
        del model.graph.initializer[0]
        model.graph.node.append(inner)
    return model.SerializeToString()


@pytest.mark.parametrize("nested", [False, True])
def test_onnx_whose_weights_are_in_another_file_is_refused(tmp_path, nested):
    card = onnx_card(tmp_path)
    (tmp_path / "network.onnx").write_bytes(with_external_data(nested))
    assert "its weights are in another file: save it with all data in one" in refused(card)


def test_fields_of_onnx_are_those_of_its_own_schema():
    """Whatever message holds a tensor, or one that does, is looked into."""
    onnx_messages = {name: getattr(onnx, name).DESCRIPTOR for name in onnx_file.WITHIN}
    holds = {onnx_file.TENSOR}
    while True:
        more = {
            name
            for name, message in onnx_messages.items()
            if any(f.message_type and f.message_type.name in holds for f in message.fields)
        }
        if more <= holds:
            break
        holds |= more
    for name, message in onnx_messages.items():
        within = {
            field.number: field.message_type.name
            for field in message.fields
            if field.message_type and field.message_type.name in holds
        }
        assert dict(onnx_file.WITHIN[name]) == within, name
    tensor = onnx.TensorProto.DESCRIPTOR.fields_by_name
    assert tensor["external_data"].number == onnx_file.EXTERNAL_DATA
    assert tensor["data_location"].number == onnx_file.DATA_LOCATION


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (interiors_in_onnx((1, 4, "h", "w")), "takes images of shape 1 x 4 x h x w"),
        (interiors_in_onnx((1, 3, 32, 32)), "see layout and patch_px in its card"),
        (
            in_onnx(
                [helper.make_node("Add", ["image", "other"], ["maps"])],
                {},
                (1, 3, "h", "w"),
                ["maps"],
                ("image", "other"),
            ),
            "takes image of tensor(float), other of tensor(float), not one image",
        ),
        (
            in_onnx([helper.make_node("Magic", ["image"], ["maps"])], {}, (1, 3, 8, 8), ["maps"]),
            "is no ONNX that can be run",
        ),
    ],
    ids=["four channels", "one size", "two inputs", "unknown operator"],
)
def test_onnx_with_another_input_is_refused(tmp_path, model, words):
    card = onnx_card(tmp_path)
    (tmp_path / "network.onnx").write_bytes(model.SerializeToString())
    assert words in refused(card)


def test_without_onnxruntime_the_pip_line_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert install_command("onnx") in refused(onnx_card(tmp_path))


class Saves(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        torch.save(image, self.path)
        return image[:, :1]


class Reads(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image[:, :1] + torch.from_file(self.path, False, 1, dtype=torch.uint8).sum()


@pytest.mark.parametrize(("kind", "word"), [(Saves, "save"), (Reads, "from_file")])
def test_torchscript_that_reaches_files_is_not_loaded(tmp_path, kind, word):
    trap = tmp_path / "trapped"
    card = torchscript_card(tmp_path)
    save_torchscript(kind(str(trap)), tmp_path / "network.pt")
    trap.unlink(missing_ok=True)
    assert f"network.pt is not loaded: it calls {word}" in refused(card)
    assert not trap.exists()


@pytest.mark.parametrize(
    "line",
    [
        'torch.save(x, "f")',
        'ops.aten.save(x, "f")',
        '(x).save("f")',
        'ops.aten.from_file("f")',
        'getattr(torch, "save")(x, "f")',
        'getattr(x, "from_file")',
        "t = torch",
        "o = ops",
        'ops.debugprims.load_tensor("f")',
        'ops.image.decode("f")',
        "ops.prim.rpc_sync(x)",
        "s = __torch__.torch.classes.cuda.Stream()",
        "def __setstate__(self): pass",
        "not code at all(",
    ],
)
def test_code_that_is_more_than_arithmetic_is_seen(line):
    require_arithmetic(b"def forward(self, x):\n  return torch.add(x, ops.aten.len(x))\n")
    with pytest.raises(CodeError):
        require_arithmetic(f"def forward(self, x):\n  {line}\n".encode())


def test_code_that_is_hidden_under_another_name_is_seen(tmp_path):
    """A second member of a name, and one that differs in capitals, which torch does not see."""
    card = torchscript_card(tmp_path)
    whole = (tmp_path / "network.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "network.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    code = next(name for name in members if name.endswith(".py"))
    other = b"def forward(self, x): ops.debugprims.nothing(x)"
    with zipfile.ZipFile(tmp_path / "network.pt", "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        archive.writestr(code, other)
    assert "it holds two members of one name" in refused(card)
    (tmp_path / "network.pt").write_bytes(whole)
    with zipfile.ZipFile(tmp_path / "network.pt", "a") as archive:
        archive.writestr(code.upper(), other)
    assert "it holds two members of one name" in refused(card)
    with zipfile.ZipFile(tmp_path / "network.pt", "w") as archive:
        for name, value in members.items():
            archive.writestr(*((code.upper(), other) if name == code else (name, value)))
    assert "which is more than arithmetic" in refused(card)
    (tmp_path / "network.pt").write_bytes(looked_at(whole))
    load_card(card)


def test_networks_as_people_write_them_are_let_through(tmp_path, tile):
    """Layers, loops, quantiles and sizes: nothing of it is taken for more than arithmetic."""

    class Usual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1)
            )

        def forward(self, image: torch.Tensor, target: int = 1) -> torch.Tensor:
            low = torch.quantile(image.flatten(), 0.01)
            kept: list[torch.Tensor] = []
            for k in range(target):
                kept += [self.body(image - low) + k]
            names = {"a": 1}
            if len(kept) > 1 and "a" in names:
                return kept[1][:, :1]
            return torch.nn.functional.interpolate(kept[0], size=image.shape[2:])[:, :1]

    card = torchscript_card(tmp_path, decoder="probability", maps={"nucleus": {}})
    save_torchscript(Usual(), tmp_path / "network.pt")
    assert load_card(card).maps(tile).shape == (1, 64, 64, 1)
    with torch.no_grad():
        torch.jit.trace(Usual().eval().body, torch.zeros(1, 3, 8, 8)).save(tmp_path / "network.pt")
    card = torchscript_card_of(tmp_path)
    assert load_card(card).maps(tile).shape == (1, 64, 64, 1)


def torchscript_card_of(folder: Path) -> Path:
    maps = {"nucleus": {"channels": [1]}}
    return write_card(folder / "card.yaml", TORCHSCRIPT_CARD, decoder="probability", maps=maps)


def test_nan_is_told(tmp_path):
    class Nan(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image[:, :1] * float("nan")

    card = torchscript_card(tmp_path, decoder="probability", maps={"nucleus": {}})
    save_torchscript(Nan(), tmp_path / "network.pt")
    assert "computed NaN or infinity" in refused(card)


def test_a_network_that_fails_says_where_in_one_sentence(tmp_path):
    class Fails(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.reshape(7, 11)

    card = torchscript_card(tmp_path)
    save_torchscript(Fails(), tmp_path / "network.pt")
    assert "network.pt cannot be run on images of shape (1, 3, 64, 64): " in refused(card)
