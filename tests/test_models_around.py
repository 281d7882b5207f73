"""What a run wants around its model: in one order, under one roof, part of what it rests on."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image

import wsi_engine
from tests.support.dense_maps import darkness_model
from wsi_engine.digests import digest_of
from wsi_engine.engine.basis import basis_of_settings, differences
from wsi_engine.errors import EngineError, ModelError, SettingsError
from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.models import around
from wsi_engine.models.around import load_model, members_of
from wsi_engine.models.augmented import augmented
from wsi_engine.models.dense import unet
from wsi_engine.models.dense.method import weights_file
from wsi_engine.models.ensemble import Ensemble, ensemble
from wsi_engine.models.filtered import Filtered
from wsi_engine.models.inner_network import Compilable
from wsi_engine.models.normalised import Normalised
from wsi_engine.models.protocol import Model
from wsi_engine.models.refined import Refined
from wsi_engine.models.registry import available_models
from wsi_engine.models.starconvex.spec import WEIGHTS
from wsi_engine.models.threshold import Threshold
from wsi_engine.models.watershed import Watershed
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.phantom import lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.results.record import read_run_record
from wsi_engine.slide.normalisation.look_files import read_target, write_looks
from wsi_engine.slide.pyramid import write_pyramid

QUICK = {"tissue": False, "measure": (), "regions": False, "report": False, "compile": "never"}
MPP, SHAPE = 0.5, (384, 640)


def wanted(**settings: Any) -> wsi_engine.RunSettings:
    return wsi_engine.RunSettings(**settings)


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    """Glands, stroma and crowds, cut out of more of it."""
    rng, shape = np.random.default_rng(11), (SHAPE[0] + 40, SHAPE[1] + 40)
    layout = lay_out_tissue(shape, MPP, rng)
    return render_tissue(shape, scatter_nuclei(layout, rng), MPP, rng, layout)[20:-20, 20:-20]


@pytest.fixture(scope="module")
def slide(tissue: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tissue at 0.5 µm/px."""
    path = tmp_path_factory.mktemp("around") / "tissue.tif"
    write_pyramid(path, tissue, MPP)
    return path


@pytest.fixture(scope="module")
def reference(tissue: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in paler colours."""
    path = tmp_path_factory.mktemp("around") / "reference.png"
    Image.fromarray(np.rint(255 - 0.8 * (255.0 - tissue)).astype(np.uint8)).save(path)
    return path


class TestOrder:
    def test_without_wishes_there_is_nothing_around(self) -> None:
        assert load_model(wanted(model="watershed")) == Watershed()

    def test_all_at_once(self) -> None:
        model: Any = load_model(
            wanted(
                ensemble=("watershed", "threshold"),
                tta=4,
                normalise="macenko",
                refine="contour",
                min_area=10,
            )
        )
        assert [type(model), type(model.model), type(model.model.model)] == [
            Filtered,
            Refined,
            Ensemble,
        ]
        for member, name in zip(model.model.model.models, ("watershed", "threshold"), strict=True):
            assert isinstance(member, Normalised)
            assert type(member.model) is type(augmented(Watershed(), 4))
            assert member.model.model.spec.name == name

    def test_what_is_given_as_an_object_is_wrapped_as_well(self) -> None:
        model: Any = load_model(wanted(model="watershed", min_score=0.5), Watershed(200.0))
        assert (type(model), model.model, model.min_score) == (Filtered, Watershed(200.0), 0.5)

    def test_names_of_nuclei_stay(self) -> None:
        for settings in ({"tta": 8}, {"normalise": "reinhard"}, {"refine": "gradient"}):
            model = load_model(wanted(model="watershed", **settings))
            assert model.spec.name == "watershed"

    def test_networks_can_be_compiled_through_all_of_it(self) -> None:
        around = {"tta": 4, "normalise": "reinhard", "refine": "gradient", "min_score": 0.6}
        own = weights_file("unet")  # as weights of one's own: torch runs them
        looks = own.with_name("looks.json")
        model = load_model(wanted(model="unet", weights=own, normalise_target=looks, **around))
        assert isinstance(model, Compilable)
        compilation = model.compilation(2, 512)
        assert compilation is not None
        assert compilation.shape == (2, 3, 512, 512)
        other = model.with_network(compilation.network)
        blank = np.full((1, 64, 64, 3), 200, np.uint8)
        assert other.maps(blank).tobytes() == model.maps(blank).tobytes()

    def test_weights_that_a_model_fetched_are_known_through_all_of_it(self) -> None:
        @dataclass(frozen=True)
        class Fetched(Watershed):
            weights: Path = Path("fetched.pth")

        settings = wanted(model="watershed", tta=4, refine="gradient", min_area=9)
        assert load_model(settings, Fetched()).weights == Path("fetched.pth")  # type: ignore[attr-defined]


class TestEnsembleByName:
    def test_two_or_more_methods(self) -> None:
        settings = wanted(ensemble=("watershed,threshold", "threshold-local"))
        assert settings.model == "ensemble"
        assert settings.ensemble == ("watershed", "threshold", "threshold-local")
        model = load_model(settings)
        assert isinstance(model, Ensemble)
        assert model.spec.name == "ensemble"
        assert model.votes == 2

    def test_it_is_in_the_list(self) -> None:
        assert "mask-rcnn and unet" in available_models()["ensemble"].spec.summary

    def test_each_has_its_weights(self) -> None:
        members = members_of(wanted(ensemble=(f"starconvex={WEIGHTS}", "watershed")))
        assert [member.weights for member in members] == [WEIGHTS, None]

    def test_who_has_none_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_weights(path: Path | None) -> Model:
            raise ModelError("unet has no weights: give them with --weights FILE")

        entry = replace(available_models()["unet"], load=no_weights)
        monkeypatch.setattr(
            around,
            "find_model",
            lambda name: entry if name == "unet" else available_models()[name],
        )
        with pytest.raises(ModelError, match=r"^unet cannot vote: .* with --ensemble unet=FILE$"):
            load_model(wanted(ensemble=("watershed", "unet")))

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"ensemble": ("watershed",)}, "two or more methods"),
            ({"ensemble": ("watershed", "watershed")}, "each once"),
            ({"ensemble": ("watershed", "")}, "each once"),
            ({"ensemble": ("watershed", "threshold"), "model": "watershed"}, "leave one of the"),
            ({"min_area": 20, "max_area": 10}, "less than min_area"),
            ({"tta": 6}, "tta = 6"),
            ({"refine": "much"}, "refine = 'much'"),
            ({"min_circularity": 1.2}, "min_circularity = 1.2"),
        ],
        ids=str,
    )
    def test_settings_that_do_not_go_together(self, settings: dict, sentence: str) -> None:
        from wsi_engine.config import make_settings

        with pytest.raises(SettingsError, match=sentence):
            make_settings(**settings)

    def test_weights_without_a_name_are_nobodys(self) -> None:
        with pytest.raises(SettingsError, match="leave weights out, and give each its own"):
            members_of(wanted(ensemble=("watershed", "threshold"), weights=Path("own.st")))

    def test_files_have_absolute_paths_in_other_processes(self) -> None:
        settings = wanted(
            ensemble=("unet=a.st", "watershed"),
            normalise="reinhard",
            normalise_target=Path("b.png"),
        ).with_absolute_paths()
        assert settings.ensemble == (f"unet={Path('a.st').absolute()}", "watershed")
        assert settings.normalise_target == Path("b.png").absolute()
        assert settings.weights is None


class TestLooks:
    def test_shipped_models_know_theirs(self) -> None:
        for name in ("starconvex", "watershed"):
            (member,) = members_of(wanted(model=name))
            assert member.looks == around.LOOKS
        for method in ("reinhard", "histogram", "macenko", "vahadane"):
            read_target(around.LOOKS, method)

    def test_the_file_says_how_it_was_made(self) -> None:
        made = json.loads(around.LOOKS.read_text(encoding="utf-8"))["made"]
        assert {"from", "mpp", "with"} <= made.keys()

    def test_own_weights_have_their_own(self, tmp_path: Path, tissue: np.ndarray) -> None:
        weights = tmp_path / "own.safetensors"
        weights.write_bytes(WEIGHTS.read_bytes())
        settings = wanted(weights=weights, normalise="macenko")
        with pytest.raises(SettingsError, match=r"give an image .* or put a file \.looks\.json"):
            load_model(settings)
        write_looks(tmp_path / "own.looks.json", tissue, {"from": "a test"})
        model: Any = load_model(settings)
        assert model.target == read_target(tmp_path / "own.looks.json", "macenko")

    def test_an_image_is_a_target(self, reference: Path) -> None:
        model: Any = load_model(
            wanted(model="watershed", normalise="reinhard", normalise_target=reference)
        )
        assert model.target == read_target(reference, "reinhard")

    def test_a_target_without_a_method_is_said(self, reference: Path) -> None:
        with pytest.raises(SettingsError, match="say how, too, such as --normalise macenko"):
            load_model(wanted(model="watershed", normalise_target=reference))

    @pytest.mark.parametrize("content", ["{}", "[]", "{", "null", '{"reinhard": {"means": 1}}'])
    def test_a_file_that_is_none_is_said(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "bad.looks.json"
        path.write_text(content)
        with pytest.raises(SettingsError, match=r"^bad\.looks\.json"):
            read_target(path, "reinhard")
        with pytest.raises(SettingsError, match="is not there"):
            read_target(tmp_path / "none.png", "reinhard")
        (tmp_path / "text.png").write_text(content)
        with pytest.raises(EngineError, match=r"text\.png"):
            read_target(tmp_path / "text.png", "reinhard")


class TestBasis:
    @pytest.mark.parametrize(
        "change",
        [
            {"tta": 4},
            {"normalise": "macenko"},
            {"refine": "gradient"},
            {"min_area": 9.0},
            {"max_area": 99.0},
            {"min_circularity": 0.5},
            {"min_score": 0.5},
            {"drop_border": True},
            {"ensemble": ("watershed", "threshold")},
        ],
        ids=str,
    )
    def test_a_result_rests_on_it(self, change: dict) -> None:
        before = basis_of_settings(wanted(model="watershed"))
        (name,) = change
        changes = differences(
            before,
            basis_of_settings(
                wanted(**{"model": "watershed"} | change)
                if name != "ensemble"
                else wanted(**change)
            ),
        )
        assert any(told.startswith(name) for told in changes)

    def test_files_count_by_their_content(self, tmp_path: Path, reference: Path) -> None:
        def basis(target: Path, weights: Path) -> dict:
            members = (f"starconvex={weights}", "watershed")
            return basis_of_settings(
                wanted(ensemble=members, normalise="reinhard", normalise_target=target)
            )

        moved, weights = tmp_path / "moved.png", tmp_path / "moved.safetensors"
        moved.write_bytes(reference.read_bytes())
        weights.write_bytes(WEIGHTS.read_bytes())
        was = basis(reference, WEIGHTS)
        assert was["ensemble"] == ["starconvex", "watershed"]
        assert differences(was, basis(moved, weights), whole=True) == []
        moved.write_bytes(b"another")
        weights.write_bytes(b"another")
        told = differences(was, basis(moved, weights), whole=True)
        assert [line.partition(":")[0] for line in told] == [
            "normalise_target",
            "weights.starconvex",
        ]


class TestRuns:
    def run(self, slide: Path, folder: Path, **settings: Any):
        return wsi_engine.run(slide, folder, model="watershed", **QUICK | settings)

    def test_filters_hold_in_what_is_written(self, slide: Path, tmp_path: Path) -> None:
        measured = {"measure": ("shape",), "tile_size": 256}
        every = self.run(slide, tmp_path / "every", **measured).nuclei.to_pandas()
        limits = {"min_area": 22.0, "max_area": 80.0, "min_circularity": 0.75}
        result = self.run(slide, tmp_path / "some", **measured, **limits)
        some = result.nuclei.to_pandas()
        area, round_ = "Area µm^2", "Circularity"
        good = every[(every[area] >= 22) & (every[area] <= 80) & (every[round_] >= 0.75)]
        assert 0.2 * len(every) < len(some) < len(every)
        # What is at a limit may fall to either side by a rounding.
        assert len(set(good["id"]) ^ set(some["id"])) <= 2
        assert read_run_record(result.folder).settings.min_area == 22.0  # type: ignore[attr-defined]

    def test_what_the_border_cuts_can_be_left_out(self, slide: Path, tmp_path: Path) -> None:
        height, width = SHAPE
        every = self.run(slide, tmp_path / "every").nuclei
        kept = self.run(slide, tmp_path / "kept", drop_border=True, tile_size=256).nuclei
        inner = shapely.box(1, 1, width - 1, height - 1)
        whole = shapely.contains_properly(inner, every.polygons)
        assert 0 < (~whole).sum() < 0.5 * len(every.polygons)
        assert len(kept.polygons) == whole.sum()
        assert shapely.contains_properly(inner, kept.polygons).all()

    def test_another_wish_is_another_run(self, slide: Path, tmp_path: Path) -> None:
        first = self.run(slide, tmp_path, min_area=20)
        assert self.run(slide, tmp_path, min_area=20).is_earlier
        with pytest.raises(SettingsError, match=r"min_area: 20\.0 -> 30\.0"):
            self.run(slide, tmp_path, min_area=30)
        assert self.run(slide, tmp_path, min_area=30, force=True).count < first.count

    def test_methods_that_vote_are_asked_for_by_name(self, slide: Path, tmp_path: Path) -> None:
        def run():
            return wsi_engine.run(slide, tmp_path, ensemble=("watershed", "threshold"), **QUICK)

        result = run()
        assert result.record.model.name == "ensemble"
        assert result.count > 30
        assert run().is_earlier
        assert result.record.model.calibration["votes"] == 2

    def test_weights_that_voters_fetched_are_part_of_the_basis(
        self, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @dataclass(frozen=True)
        class Fetched(Watershed):
            weights: Path = tmp_path / "fetched.pth"

        (tmp_path / "fetched.pth").write_bytes(b"fetched")
        entry = available_models()["hovernet_fast-pannuke"]
        fetched = replace(entry, load=lambda weights: Fetched())
        others = available_models()
        monkeypatch.setattr(
            around, "find_model", lambda name: fetched if name == entry.name else others[name]
        )
        voters = ("threshold", entry.name)
        result = wsi_engine.run(slide, tmp_path, ensemble=voters, **QUICK)
        weights = result.record.basis["weights"]
        assert weights["threshold"] is None
        assert weights["watershed"] == digest_of(tmp_path / "fetched.pth")

    def test_a_result_from_before_there_was_a_setting_is_one_without_it(
        self, slide: Path, tmp_path: Path
    ) -> None:
        result = self.run(slide, tmp_path)
        record = json.loads((result.folder / "run.json").read_text(encoding="utf-8"))
        del record["basis"]["tta"], record["settings"]["tta"]
        (result.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
        assert self.run(slide, tmp_path).is_earlier
        with pytest.raises(SettingsError, match="tta: none -> 4"):
            self.run(slide, tmp_path, tta=4)

    def test_a_run_of_many_processes_is_the_same(
        self, slide: Path, tmp_path: Path, reference
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor

        wishes = {
            "normalise": "reinhard",
            "normalise_target": reference,
            "refine": "contour",
            "min_score": 0.1,
            "tile_size": 256,
        }
        alone = self.run(slide, tmp_path / "alone", **wishes)
        with ThreadPoolExecutor(1) as executor:
            split = self.run(slide, tmp_path / "split", **wishes, executor=executor, jobs=2)
        written = [r.folder / "nuclei.geojson.gz" for r in (alone, split)]
        assert written[0].read_bytes() == written[1].read_bytes()


WRAPPED: dict[str, tuple[Any, dict[str, Any]]] = {
    "views of watershed": (Watershed, {"tta": 4}),
    "views of a dense method": (lambda: darkness_model(unet.METHOD), {"tta": 8}),
    "colours": (Watershed, {"normalise": "macenko", "normalise_target": around.LOOKS}),
    "gradient of watershed": (Watershed, {"refine": "gradient"}),
    "contours of watershed": (Watershed, {"refine": "contour"}),
    "contours of a dense method": (lambda: darkness_model(unet.METHOD), {"refine": "contour"}),
    "contours of starconvex": (lambda: load_model(wanted()), {"refine": "contour"}),
    "votes": (lambda: ensemble([Watershed(), Threshold()]), {"min_score": 0.1}),
    "filters": (Watershed, {"min_area": 25, "max_area": 90, "min_circularity": 0.7}),
}
EVERY_WRAPPED = pytest.mark.parametrize(("make", "wishes"), WRAPPED.values(), ids=WRAPPED)


@EVERY_WRAPPED
def test_the_tiling_does_not_change_the_nuclei(slide: Path, make: Any, wishes: dict) -> None:
    def polygons(tile_size: int) -> np.ndarray:
        return wsi_engine.run(
            slide, model=make(), tile_size=tile_size, **QUICK, **wishes
        ).nuclei.polygons

    whole = polygons(1024)
    assert len(whole) > 30
    for tile_size in (256, 512):
        tiled = polygons(tile_size)
        assert abs(len(tiled) - len(whole)) <= 1
        assert (polygon_overlaps(whole, tiled).iou >= 0.98).sum() >= len(whole) - 1


@EVERY_WRAPPED
def test_workers_and_batches_do_not_change_a_byte(
    slide: Path, tmp_path: Path, make: Any, wishes: dict
) -> None:
    def written(workers: int, batch_size: int) -> bytes:
        folder = tmp_path / f"{workers} {batch_size}"
        how = {"tile_size": 256, "workers": workers, "batch_size": batch_size}
        result = wsi_engine.run(slide, folder, model=make(), **QUICK, **wishes, **how)
        return (result.folder / "nuclei.geojson.gz").read_bytes()

    assert written(workers=1, batch_size=1) == written(workers=4, batch_size=8)


@pytest.mark.parametrize("kind", ["gradient", "contour"])
@pytest.mark.parametrize(
    "make",
    [Watershed, lambda: darkness_model(unet.METHOD), lambda: load_model(wanted())],
    ids=["watershed", "unet", "starconvex"],
)
def test_refined_models_keep_every_promise(make: Any, kind: Any) -> None:
    settings = wanted(model="watershed", refine=kind, min_area=10)
    assert wsi_engine.check_model(load_model(settings, make())) == []


def test_ensembles_keep_every_promise() -> None:
    assert wsi_engine.check_model(load_model(wanted(ensemble=("watershed", "threshold")))) == []


def test_nothing_is_found_where_nothing_is() -> None:
    blank = np.full((1, 256, 256, 3), 255, np.uint8)
    for kind in ("gradient", "contour"):
        model = load_model(wanted(model="watershed", refine=kind, tta=4, min_area=5))
        found = model.decode(model.maps(blank)[0])
        assert isinstance(found, Predictions)
        assert len(found) == 0
