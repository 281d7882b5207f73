"""What is there already: a run does nothing twice, replaces nothing unasked, trusts nothing."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import wsi_engine
from tests.support.runs import OPTIONS, SETTINGS, outputs, write_small_slide
from wsi_engine.cli import main
from wsi_engine.digests import digest_of
from wsi_engine.engine.basis import basis_of, differences
from wsi_engine.engine.versions import versions_of_computing
from wsi_engine.errors import BusyError, EngineError, OutputError, ResultError, SettingsError
from wsi_engine.models.devices import describe_device, processor_instructions
from wsi_engine.models.registry import BUILT_IN, find_model
from wsi_engine.models.starconvex.model import load_starconvex
from wsi_engine.regions.summary import summarise
from wsi_engine.results.failure import Failure, write_failure
from wsi_engine.results.folder import describe_file
from wsi_engine.results.layout import TILES
from wsi_engine.results.status import status_of
from wsi_engine.results.verify import problems_of


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_slide(tmp_path_factory.mktemp("slides") / "small.tif")


@pytest.fixture(scope="module")
def finished(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    wsi_engine.run(slide, out, **SETTINGS)
    return out


@pytest.fixture(scope="module")
def cut_off(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was interrupted after 20 of 64 tiles."""
    out = tmp_path_factory.mktemp("unfinished")

    def interrupt(progress: wsi_engine.Progress) -> None:
        if progress.tiles == 21:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wsi_engine.run(slide, out, **SETTINGS, observe=interrupt)
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


@pytest.fixture
def unfinished(cut_off: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cut_off, tmp_path / "unfinished"))


def record_of(out: Path) -> dict:
    return json.loads((out / "small" / "run.json").read_text(encoding="utf-8"))


def write_record(out: Path, record: object) -> None:
    (out / "small" / "run.json").write_text(json.dumps(record), encoding="utf-8")


# --- A finished result --------------------------------------------------------------------------


def test_the_same_run_again_does_nothing(slide, out, monkeypatch):
    before = states(out / "small")
    monkeypatch.setattr("wsi_engine.engine.run.make_plan", None)  # not even a plan
    result = wsi_engine.run(slide, out, **SETTINGS, device="cpu", batch_size=7)
    assert result.is_earlier
    assert json.loads(result.record.text()) == record_of(out)
    assert len(result.nuclei) == result.count
    assert states(out / "small") == before


def states(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_the_command_says_that_it_has_nothing_to_do(slide, out, capsys):
    main_quietly("run", slide, "-o", out, *OPTIONS)
    text = capsys.readouterr().out
    assert f"already finished on {record_of(out)['finished']}; --force to do it again" in text


def test_what_a_finished_run_did_not_sum_up_any_more_is_made_up_for(slide, out):
    """A run may be killed between its result and the regions and the page of it."""
    settings = SETTINGS | {"regions": True, "report": True}
    before, record = states(out / "small"), record_of(out)
    assert wsi_engine.run(slide, out, **settings).is_earlier
    after, now = states(out / "small"), record_of(out)
    assert {name: after[name] for name in before if name != "run.json"} == {
        name: state for name, state in before.items() if name != "run.json"
    }
    # The record vouches for what has come, and tells of the same run.
    assert now["files"].keys() == after.keys() - {"run.json"}
    assert now["files"].items() >= record.pop("files").items()
    assert {name: now[name] for name in record} == record
    assert {"regions.csv", "regions.geojson", "report.html"} <= after.keys()
    assert wsi_engine.run(slide, out, **settings).is_earlier
    assert states(out / "small") == after


def test_regions_of_a_finished_run_are_computed_by_one_process_at_a_time(slide, out, monkeypatch):
    settings, refused = SETTINGS | {"regions": True}, []

    def meanwhile(*arguments):
        if not refused:
            refused.append(True)
            with pytest.raises(BusyError, match="let it finish"):
                wsi_engine.run(slide, out, **settings)
        return summarise(*arguments)

    monkeypatch.setattr("wsi_engine.regions.measure.summarise", meanwhile)
    assert wsi_engine.run(slide, out, **settings).is_earlier
    assert refused
    assert (out / "small" / "regions.parquet").exists()


def test_force_does_it_again(slide, out):
    before = outputs(out / "small")
    result = wsi_engine.run(slide, out, **SETTINGS, force=True)
    assert not result.is_earlier
    assert outputs(out / "small") == before


OTHERS = {
    "tile_size": ({"tile_size": 128}, "tile_size: 96 -> 128"),
    "stains": ({"stains": "H-DAB"}, "stains: H&E -> H-DAB"),
    "measure": ({"measure": ("shape",)}, r"measure: shape,colour,.* -> shape\b"),
    "mpp": ({"mpp": 0.26}, "mpp: none -> 0.26"),
    "model": ({"model": "starconvex"}, "model: watershed -> starconvex; weights: none -> "),
    "split": ({"split": 9}, "split: none -> 9"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_other_settings_are_refused_and_the_difference_shown(slide, finished, cut_off, state, name):
    settings, shown = OTHERS[name]
    out = finished if state == "finished" else cut_off
    with pytest.raises(SettingsError, match=rf"small holds an? {state} .*{shown}.*--force"):
        wsi_engine.run(slide, out, **(SETTINGS | settings))


def test_results_of_an_older_engine_are_refused(slide, out, unfinished, monkeypatch):
    monkeypatch.setattr("wsi_engine.engine.basis.RESULT_VERSION", 99)
    for folder in (out, unfinished):
        with pytest.raises(SettingsError, match=r"version of results: \d+ -> 99"):
            wsi_engine.run(slide, folder, **SETTINGS)


def test_a_finished_result_stands_whatever_machine_looks_at_it(slide, out, monkeypatch):
    monkeypatch.setattr("wsi_engine.models.devices.precision_of", lambda _: "float64")
    monkeypatch.setattr("wsi_engine.engine.basis.versions_of_computing", lambda: {"numba": "9"})
    assert wsi_engine.run(slide, out, **SETTINGS).is_earlier


def test_weights_count_by_what_is_in_the_file(slide, tmp_path):
    def basis(weights: Path) -> dict:
        return basis_of(slide, wsi_engine.RunSettings(model="starconvex", weights=weights))

    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"one")
    was = basis(weights)
    moved = weights.rename(tmp_path / "moved.safetensors")
    assert differences(was, basis(moved)) == []
    moved.write_bytes(b"two")
    (changed,) = differences(was, basis(moved))
    assert changed.startswith("weights: ")


def test_weights_that_a_model_brings_count_wherever_they_lie(slide, tmp_path, monkeypatch):
    weights = tmp_path / "w.safetensors"
    own = find_model("watershed")
    entry = replace(own, spec=replace(own.spec, name="own"), weights=weights)
    monkeypatch.setitem(BUILT_IN, "own", entry)

    def basis() -> dict:
        return basis_of(slide, wsi_engine.RunSettings(model="own"))

    weights.write_bytes(b"one")
    was = basis()
    weights.write_bytes(b"three")
    (changed,) = differences(was, basis())
    assert changed.startswith("weights: ")


def test_the_default_network_counts_by_its_weights(slide):
    weights = basis_of(slide, wsi_engine.RunSettings())["weights"]
    assert weights == digest_of(find_model("starconvex").weights)


def test_what_was_edited_in_place_is_not_overwritten(slide, out):
    (out / "small" / "nuclei.geojson.gz").write_bytes(b"mine")
    with pytest.raises(ResultError, match=r"nuclei\.geojson\.gz is not as it was written"):
        wsi_engine.run(slide, out, **SETTINGS)
    assert (out / "small" / "nuclei.geojson.gz").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"{}", b"[" * 100_000, b"\xff", b'{"files": {}, "basis": []}'],
    ids=lambda content: content[:12],
)
def test_a_record_that_is_none_is_an_error(slide, out, capsys, content):
    path = out / "small" / "run.json"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"--force"):
        wsi_engine.run(slide, out, **SETTINGS)
    assert [status.state for status in status_of(out)] == ["damaged"]
    assert problems_of(out / "small") != []


@pytest.mark.parametrize("left_out", ["nuclei", "slide", "tiles", "finished", "warnings"])
def test_a_record_that_lacks_what_is_shown_of_it_is_an_error(slide, out, left_out, capsys):
    record = record_of(out)
    del record[left_out]
    write_record(out, record)
    command = ["run", slide, "-o", out, *OPTIONS]
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in command])
    assert end.value.code == 1
    assert "run the slide again with --force" in capsys.readouterr().err


# --- Unfinished work beside a result ------------------------------------------------------------


def test_a_forced_run_that_was_cut_off_goes_on_and_until_then_the_old_result_stands(slide, out):
    before = outputs(out / "small")

    def interrupt(progress: wsi_engine.Progress) -> None:
        if progress.tiles == 21:
            raise KeyboardInterrupt

    other = SETTINGS | {"simplify_um": 0.5}
    with pytest.raises(KeyboardInterrupt):
        wsi_engine.run(slide, out, **other, force=True, observe=interrupt)
    for name, content in before.items():
        assert (out / "small" / name).read_bytes() == content
    assert problems_of(out / "small") == []
    with pytest.raises(SettingsError, match=r"unfinished run with simplify_um: 0\.5 -> 0\.08"):
        wsi_engine.run(slide, out, **SETTINGS)
    result = wsi_engine.run(slide, out, **other)
    assert result.record.tiles.resumed == 20
    assert outputs(out / "small") != before


def test_force_with_what_cannot_be_run_takes_nothing_away(slide, unfinished, tmp_path):
    before = states(unfinished / "small" / TILES)
    absent = tmp_path / "typo.geojson"
    with pytest.raises(EngineError, match=r"typo\.geojson"):
        wsi_engine.run(slide, unfinished, **SETTINGS, roi=absent, force=True)
    assert states(unfinished / "small" / TILES) == before
    result = wsi_engine.run(slide, unfinished, **SETTINGS, force=True)
    assert result.record.tiles.resumed == 0


# --- Unfinished work of another machine ----------------------------------------------------------


def compute_in(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for user in ("devices", "layers"):
        monkeypatch.setattr(f"wsi_engine.models.{user}.precision_of", lambda _: precision)


def cut_off_run(slide: Path, out: Path, **settings: object) -> None:
    def interrupt(progress: wsi_engine.Progress) -> None:
        if progress.tiles == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wsi_engine.run(slide, out, **settings, observe=interrupt)


@pytest.fixture
def begun_in_fp32(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    compute_in("float32", monkeypatch)
    cut_off_run(slide, tmp_path / "fp32", **NETWORK)
    return tmp_path / "fp32"


NETWORK = SETTINGS | {"model": "starconvex", "device": "cpu", "compile": "never"}


def test_a_run_begun_in_fp32_is_not_gone_on_with_in_bf16(slide, begun_in_fp32, monkeypatch):
    compute_in("bfloat16", monkeypatch)
    before = states(begun_in_fp32 / "small" / TILES)
    with pytest.raises(SettingsError) as refused:
        wsi_engine.run(slide, begun_in_fp32, **NETWORK)
    sentence = r"\S+ holds an unfinished run with arithmetic: cpu float32 \w+ -> cpu bfloat16 \w+: "
    assert re.fullmatch(sentence + "start again with --force, or .*", str(refused.value))
    assert states(begun_in_fp32 / "small" / TILES) == before


def test_tiles_of_another_machine_are_done_again_with_force_and_where_that_is_wanted(
    slide, begun_in_fp32, tmp_path, monkeypatch
):
    compute_in("bfloat16", monkeypatch)
    whole = wsi_engine.run(slide, tmp_path / "whole", **NETWORK)
    other = Path(shutil.copytree(begun_in_fp32, tmp_path / "other"))
    forced = wsi_engine.run(slide, begun_in_fp32, **NETWORK, force=True)
    redone = wsi_engine.run(slide, other, **NETWORK, redo_foreign_tiles=True)
    for result in (forced, redone):
        assert result.record.tiles.resumed == 0
        assert outputs(result.folder) == outputs(whole.folder)
    (warning,) = set(redone.record.warnings) - set(whole.record.warnings)
    assert re.search("tiles of an unfinished run were computed again.*float32.*bfloat16", warning)


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ("wsi_engine.models.devices.processor_instructions", r"arithmetic: cpu .* -> cpu \w+ new"),
        ("wsi_engine.engine.basis.versions_of_computing", r"versions\.numba: .* -> 99"),
    ],
)
def test_another_processor_and_other_versions_are_refused(
    slide, unfinished, monkeypatch, changed, shown
):
    def versions() -> dict[str, str]:
        return versions_of_computing() | {"numba": "99"}

    monkeypatch.setattr(changed, versions if "versions" in changed else lambda _: "new")
    with pytest.raises(SettingsError, match=rf"holds an unfinished run with {shown}: start"):
        wsi_engine.run(slide, unfinished, **SETTINGS)


def test_other_settings_are_refused_even_where_foreign_tiles_are_done_again(
    slide, unfinished, monkeypatch
):
    monkeypatch.setattr("wsi_engine.models.devices.processor_instructions", lambda _: "new")
    with pytest.raises(SettingsError, match="simplify_um"):
        wsi_engine.run(slide, unfinished, **SETTINGS, simplify_um=1, redo_foreign_tiles=True)


PROCESSORS = {
    "avx2": {"avx", "avx2"},
    "avx2_vnni": {"avx", "avx2", "avxvnni"},
    "avx512": {"avx", "avx2", "avx512f", "avx512bw"},
    "avx512_vnni": {"avx", "avx2", "avx512f", "avx512bw", "avx512vnni"},
    "avx512_bf16": {"avx", "avx2", "avx512f", "avx512bw", "avx512vnni", "avx512bf16", "avxvnni"},
    "amx": {"avx", "avx2", "avx512bw", "avx512vnni", "avx512bf16", "amx-tile", "amx-bf16"},
}
"""What the compiler of the kernels finds that they have."""


@pytest.mark.parametrize(
    ("processor", "limit", "precision", "name"),
    [
        ("amx", "", "bfloat16", "amx_bf16"),
        ("amx", "ALL", "bfloat16", "amx_bf16"),
        ("amx", "AVX512_CORE_AMX", "bfloat16", "amx_bf16"),
        ("amx", "AVX512_CORE_FP16", "bfloat16", "avx512_bf16"),
        ("amx", "avx512_core_bf16", "bfloat16", "avx512_bf16"),
        ("amx", "AVX512_CORE_VNNI", "bfloat16", "avx512_vnni"),
        ("amx", "AVX512_CORE", "bfloat16", "avx512"),
        ("amx", "AVX2_VNNI_2", "bfloat16", "avx2_vnni"),
        ("amx", "AVX2", "bfloat16", "avx2"),
        ("amx", "AVX", "bfloat16", "avx"),
        ("amx", "SSE41", "bfloat16", "sse4"),
        ("avx512_bf16", "", "bfloat16", "avx512_bf16"),
        ("avx512_bf16", "AVX512_CORE_AMX", "bfloat16", "avx512_bf16"),
        # In fp32, and in whole numbers, these three compute alike.
        ("amx", "", "float32", "avx512_vnni"),
        ("avx512_bf16", "", "float32", "avx512_vnni"),
        ("avx512_vnni", "", "float32", "avx512_vnni"),
        ("avx512", "", "float32", "avx512"),
        ("avx2_vnni", "", "float32", "avx2_vnni"),
        ("avx2", "", "float32", "avx2"),
        ("avx2", "AVX512_CORE", "float32", "avx2"),
    ],
)
def test_the_arithmetic_of_a_processor_has_a_name(processor, limit, precision, name, monkeypatch):
    features = frozenset(PROCESSORS[processor])
    monkeypatch.setattr("wsi_engine.models.devices._features", lambda: features)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert processor_instructions(precision) == name


def named_maps() -> tuple[str, str]:
    """Name the arithmetic of this process, and return a digest of what the network gives in it."""
    model = load_starconvex().to("cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)
    return describe_device("cpu"), sha256(model.maps(pixels).tobytes()).hexdigest()


def test_another_arithmetic_has_another_name(monkeypatch):
    """As far as the processor of this machine can be made to compute differently."""
    name, maps = named_maps()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        limited, limited_maps = process.submit(named_maps).result()
    assert (name == limited) <= (maps == limited_maps)
    if "bfloat16" in name:
        assert (name == limited) == (maps == limited_maps)


# --- Status and verify --------------------------------------------------------------------------


def test_status(finished, cut_off, tmp_path):
    shutil.copytree(finished / "small", tmp_path / "b")
    shutil.copytree(cut_off / "small", tmp_path / "a")
    (tmp_path / "c" / ".work").mkdir(parents=True)
    (tmp_path / "no slide").mkdir()
    (tmp_path / "archive.sqlite").touch()
    a, b, c = status_of(tmp_path)
    assert (a.folder, a.state, a.tiles, a.tiles_total) == ("a", "unfinished", 20, 64)
    assert a.nuclei > 0
    assert (b.folder, b.state, b.tiles, b.tiles_total) == ("b", "finished", 64, 64)
    record = record_of(finished)
    assert (b.nuclei, b.finished) == (record["nuclei"]["count"], record["finished"])
    assert (c.folder, c.state, c.tiles) == ("c", "empty", None)
    assert [status.running for status in (a, b, c)] == [None] * 3
    assert status_of(tmp_path / "b") == [b]


def test_status_on_the_command_line(finished, cut_off, capsys, tmp_path):
    shutil.copytree(cut_off / "small", tmp_path / "a")
    shutil.copytree(finished / "small", tmp_path / "b")
    main_quietly("status", tmp_path)
    text = capsys.readouterr().out
    assert "20 / 64" in text
    assert "1 finished, 1 unfinished" in text
    main_quietly("status", tmp_path, "--json")
    shown = json.loads(capsys.readouterr().out)
    assert [(slide["folder"], slide["state"]) for slide in shown] == [
        ("a", "unfinished"),
        ("b", "finished"),
    ]


def main_quietly(*arguments: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert not end.value.code


def test_a_folder_that_is_not_there(capsys, tmp_path):
    for command in ("status", "verify"):
        with pytest.raises(SystemExit) as end:
            main([command, str(tmp_path / "absent")])
        assert end.value.code == 1
        assert "no such folder" in capsys.readouterr().err


def test_verify_finds_nothing_wrong_with_what_a_run_left(out, unfinished, capsys):
    main_quietly("verify", out)
    assert "1 slide(s): all is as it was written" in capsys.readouterr().out
    assert problems_of(unfinished / "small") == []
    # What is made of a result later is none of its files.
    (out / "small" / "report.html").write_text("new")
    assert problems_of(out / "small") == []


def test_verify_counts_what_is_finished_and_names_what_is_not(out, unfinished, capsys):
    shutil.copytree(unfinished / "small", out / "begun")
    (out / "lost").mkdir()
    when = "2026-01-01T00:00:00"
    write_failure(out / "lost", Failure("lost.svs is no slide", "SlideError", 1, when, "here", ""))
    main_quietly("verify", out)
    said = capsys.readouterr()
    assert "1 slide(s): all is as it was written" in said.out
    named = "begun (unfinished), lost (failed)"
    assert f"2 slide(s) have no finished result: {named}" in " ".join(said.err.split())
    shutil.rmtree(out / "small")
    with pytest.raises(SystemExit) as end:
        main(["verify", str(out)])
    assert end.value.code == 1
    said = capsys.readouterr()
    assert "all is as it was written" not in said.out
    assert f"holds no finished result, but {named}: " in " ".join(said.err.split())


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "name", ["nuclei.geojson.gz", "nuclei.parquet", "tissue.geojson", "columns.json"]
)
@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_verify_names_the_file_that_is_harmed(out, capsys, name, harm):
    harm(out / "small" / name)
    with pytest.raises(SystemExit) as end:
        main(["verify", str(out)])
    assert end.value.code == 1
    text = capsys.readouterr().out
    assert str(out / "small" / name) in text
    assert "Traceback" not in text


def test_verify_counts(out):
    """Also what has a good checksum."""
    record = record_of(out)
    record["nuclei"]["count"] += 1
    write_record(out, record)
    problems = problems_of(out / "small")
    assert len(problems) == 2
    assert all("tells of" in problem for problem in problems)


def test_verify_asks_for_unique_ids_that_are_the_same_in_both(out):
    path = out / "small" / "nuclei.parquet"
    table = pq.read_table(path)
    ids = table["id"].to_pylist()
    names = table.schema.names
    changed = table.set_column(names.index("id"), table.schema.field("id"), [[ids[1], *ids[1:]]])
    pq.write_table(changed, path)
    record = record_of(out)
    record["files"]["nuclei.parquet"] = describe_file(path).model_dump()
    write_record(out, record)
    repeated, others = problems_of(out / "small")
    assert "1 ids in nuclei.parquet are not unique" in repeated
    assert "hold other nuclei" in others


def test_verify_leads_nowhere_else(out, tmp_path):
    (tmp_path / "secret").write_text("x")
    record = record_of(out)
    for name in ("../../secret", str(tmp_path / "secret"), "..", ""):
        record["files"] = {name: {"bytes": 1, "sha256": ""}}
        write_record(out, record)
        assert any(
            "no file of this folder" in text or "missing" in text
            for text in problems_of(out / "small")
        )


def test_verify_looks_at_the_parts_of_what_is_unfinished(unfinished):
    tiles = unfinished / "small" / ".work" / "tiles"
    part = sorted(tiles.glob("part-*"))[0]
    flip(part)
    (problem,) = problems_of(unfinished / "small")
    assert part.name in problem
    (tiles / "journal.sqlite").write_bytes(b"no database" * 100)
    (problem,) = problems_of(unfinished / "small")
    assert "computed again" in problem
    assert status_of(unfinished)[0].state == "damaged"


# --- Differences --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": 1}, {"a": None}, ["a: 1 -> none"]),
        ({"a": []}, {"a": ["x", "y"]}, ["a: none -> x,y"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ["a.c: 2 -> 3"]),
        ({"a": "f" * 64}, {"a": "e" * 64}, ["a: ffffffffffff... -> eeeeeeeeeeee..."]),
        ({"a": {"b": 1}}, {"a": 1}, []),
    ],
)
def test_differences(was, now, expected):
    assert differences(was, now) == expected


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 1, "b": None}, ["b: absent -> none"]),
        ({"a": 1, "b": "x"}, {"a": 2}, ["a: 1 -> 2", "b: x -> absent"]),
        ({"a": {"b": 1}}, {"a": 1}, ["a.b: 1 -> absent", "a: absent -> 1"]),
    ],
)
def test_differences_between_bases_that_tell_everything(was, now, expected):
    assert differences(was, now, whole=True) == expected


def test_an_unfinished_run_of_which_more_is_told_is_not_silently_thrown_away(
    slide, unfinished, monkeypatch
):
    described = basis_of

    def more(*given):
        return described(*given) | {"sharpness": 2}

    monkeypatch.setattr("wsi_engine.engine.run.basis_of", more)
    with pytest.raises(SettingsError, match=r"unfinished run with sharpness: absent -> 2"):
        wsi_engine.run(slide, unfinished, **SETTINGS)
    (status,) = status_of(unfinished)
    assert status.tiles == 20


def test_a_name_that_leads_out_is_refused(tmp_path):
    from wsi_engine.results.folder import ResultFolder

    for name in ("", ".", "..", "a/b", "../x", "/x"):
        with pytest.raises(OutputError):
            ResultFolder(tmp_path, name)
