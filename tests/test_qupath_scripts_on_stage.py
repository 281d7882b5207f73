"""What the Groovy scripts do, on a stage of the few methods of QuPath that they call."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from tests.support.groovy import groovy

STAGE = Path(__file__).parent / "support" / "qupath_stage"
SCRIPTS = Path(__file__).resolve().parents[1] / "qupath_scripts"

# An image of 1000 x 800 pixels and a run that is given no process, before any script.
PROLOGUE = """
import qupath.lib.scripting.QP
import qupath.lib.io.PathObject
import qupath.lib.io.ROI
def folder = new File(args[0])
def serverOf = { Map stated ->
    def size = stated.size ?: [1000, 800]
    [getURIs: { [new File(folder, 'image.svs').toURI()] },
     getWidth: { size[0] }, getHeight: { size[1] },
     getPath: { stated.path ?: 'file' }, getBuilder: { stated.builder ?: [:] }] as Server
}
interface Server {
    List getURIs()
    int getWidth()
    int getHeight()
    String getPath()
    Map getBuilder()
}
QP.server = serverOf([:])
def run = { String script, List arguments ->
    new GroovyShell(this.class.classLoader, new Binding(args: arguments as String[]))
        .evaluate(new File(args[1], script))
}
def results = new File(folder, 'results').path
def named = { String name -> QP.objects.find { it.name == name } }
"""


def square(x, y, side, identity, kind="detection", name=None, **properties):
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    stated = {"objectType": kind, "name": name or f"{kind} {x}"} | properties
    return {
        "type": "Feature",
        "id": f"00000000-0000-4000-8000-{identity:012d}",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": stated,
    }


TISSUE = {"kind": "annotation", "isLocked": True, "classification": {"name": "Tissue"}}


def write_result(folder: Path, tissue_side=700, count=3.0) -> None:
    """A result of three nuclei, a piece of tissue, and a region that was drawn."""
    result = folder / "results" / "image"
    result.mkdir(parents=True, exist_ok=True)
    bounds = {"x": 0, "y": 0, "width": 1000, "height": 800}
    record = {"slide": {"name": "image.svs", "bounds": bounds}, "slide_path": "/x/image.svs"}
    tissue = square(0, 0, tissue_side, 10, name="Tissue 1", **TISSUE)
    drawn = square(100, 100, 200, 11, "annotation", "mine")
    tissue_with, drawn_with = json.loads(json.dumps([tissue, drawn]))
    for annotation in (tissue_with, drawn_with):
        annotation["properties"]["measurements"] = {"Nuclei": count}
    nuclei = [square(120 + 40 * k, 120, 10, k) for k in range(3)]
    files = {
        "run.json": record,
        "nuclei.geojson": {"features": nuclei},
        "tissue.geojson": {"features": [tissue]},
        "roi.geojson": {"features": [drawn]},
        "regions.geojson": {"features": [tissue_with, drawn_with]},
    }
    for name, document in files.items():
        (result / name).write_text(json.dumps(document), "utf-8")


def on_stage(folder: Path, scenes: str) -> list[str]:
    """Run scenes after the prologue; return the lines that they print."""
    file = folder / "scenes.groovy"
    file.write_text(PROLOGUE + scenes, encoding="utf-8")
    (folder / "image.svs").touch()
    arguments = ["-cp", STAGE, f"-Dproject={folder}", file, folder, SCRIPTS]
    return groovy(*arguments).splitlines()


def test_a_second_import_keeps_what_is_yours_and_renews_what_is_the_engines(tmp_path):
    write_result(tmp_path)
    mine = json.dumps(square(100, 100, 200, 11, "annotation", "mine"))
    printed = on_stage(
        tmp_path,
        f"""
        QP.objects << new PathObject(new groovy.json.JsonSlurper().parseText('{mine}'))
        run('import_results.groovy', [results])
        println "first: ${{QP.objects.size()}}, mine has ${{named('mine').measurements}}"
        named('detection 120').color = 255
        named('detection 160').metadata.put('seen', 'yes')
        def file = new File(results, 'image/regions.geojson')
        file.text = file.text.replace('3.0', '5.0')
        run('import_results.groovy', [results])
        println "second: ${{QP.objects.size()}}, mine has ${{named('mine').measurements}}, " +
            "Tissue 1 has ${{named('Tissue 1').measurements}}, " +
            "${{named('detection 120').color}}, ${{named('detection 160').metadata.seen}}"
        named('Tissue 1').roi = new ROI([[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]])
        run('import_results.groovy', [results])
        println "third: ${{QP.objects.size()}}, Tissue 1 has ${{named('Tissue 1').ROI.area}} px"
        """,
    )
    assert printed == [
        "image: 3 nuclei from 1 file(s) added, 0 replaced, 0 corrected ones kept, "
        "0 other detections untouched, 1 annotations added, 0 of them anew, "
        "1 of yours given numbers",
        "first: 5, mine has [Nuclei:3.0]",
        "image: 1 nuclei from 1 file(s) added, 1 replaced, 2 corrected ones kept, "
        "0 other detections untouched, 1 annotations added, 1 of them anew, "
        "1 of yours given numbers",
        "second: 5, mine has [Nuclei:5.0], Tissue 1 has [Nuclei:5.0], 255, yes",
        "image: 1 nuclei from 1 file(s) added, 1 replaced, 2 corrected ones kept, "
        "0 other detections untouched, 0 annotations added, 0 of them anew, "
        "1 of yours given numbers",
        "third: 5, Tissue 1 has 81.0 px",
    ]


def test_a_view_that_is_turned_mirrored_or_cut_is_refused(tmp_path):
    write_result(tmp_path)
    printed = on_stage(
        tmp_path,
        """
        def views = [
            [path: 'qupath.lib.images.servers.RotatedImageServer: file (Rotation=ROTATE_180)'],
            [builder: [builderType: 'pyramidize', builder: [builderType: 'flipped', flip: 'BOTH']]],
            [builder: [builderType: 'cropped', region: [x: 10]]],
        ]
        views.each {
            QP.server = serverOf(it)
            ['import_results', 'run_wsi_engine', 'export_annotations'].each {
                run(it + '.groovy', [results])
            }
        }
        QP.server = serverOf([size: [800, 1000]])
        run('import_results.groovy', [results])
        println QP.objects.size()
        """,
    )
    assert len(printed) == 11
    for line, word in zip(
        printed, [w for w in ("rotated", "flipped", "cropped") for _ in range(3)], strict=False
    ):
        assert f"shows the file {word}" in line
        assert line.endswith("add the file to the project as it is")
    assert "has 800 x 1000 pixels, the slide of the result 1000 x 800" in printed[9]
    assert printed[10] == "0"


def test_what_the_engine_made_is_no_region_unless_it_is_selected(tmp_path):
    write_result(tmp_path / "wsi_engine")
    engine = "import sys; print('--roi' in sys.argv, '--force' in sys.argv)"
    command = json.dumps([sys.executable, "-c", engine])
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for script in SCRIPTS.glob("*.groovy"):
        text = script.read_text("utf-8")
        assert script.stem != "run_wsi_engine" or "def COMMAND = ['wsi-engine']" in text
        text = text.replace("def COMMAND = ['wsi-engine']", f"def COMMAND = {command}")
        (scripts / script.name).write_text(text, "utf-8")
    printed = on_stage(
        tmp_path,
        f"""
        def again = {{
            new GroovyShell(this.class.classLoader, new Binding(args: [] as String[]))
                .evaluate(new File('{scripts}', 'run_wsi_engine.groovy'))
        }}
        results = new File(folder, 'wsi_engine/results').path
        new File(results, 'image/roi.geojson').delete()
        def tissue = new File(results, 'image/tissue.geojson').text
        new File(results, 'image/regions.geojson').text = tissue
        again()
        again()
        QP.selected = [named('Tissue 1')]
        again()
        println new File(folder, 'wsi_engine/roi/image.geojson').text
        QP.selected = []
        named('Tissue 1').metadata.clear()
        again()
        """,
    )
    told = [line for line in printed if re.fullmatch(r"(True|False) (True|False)|Tissue 1", line)]
    assert told == ["False False", "False False", "True True", "Tissue 1", "False True"]


def test_what_the_engine_made_is_not_exported_as_drawn(tmp_path):
    write_result(tmp_path)
    mine = json.dumps(square(100, 100, 200, 77, "annotation", "mine"))
    printed = on_stage(
        tmp_path,
        f"""
        QP.objects << new PathObject(new groovy.json.JsonSlurper().parseText('{mine}'))
        run('import_results.groovy', [results])
        run('export_annotations.groovy', [])
        def exported = new File(folder, 'wsi_engine/annotations/image.geojson')
        println exported.text
        named('Tissue 1').metadata.clear()
        run('export_annotations.groovy', [])
        println exported.text
        """,
    )
    # The region that was drawn for the run comes back as the user's.
    assert [printed[2], printed[4]] == ["mine mine"] * 2


def test_an_older_qupath_is_refused_with_a_sentence(tmp_path):
    """QuPath 0.5 keeps no metadata of detections, and has not the methods."""
    stage = tmp_path / "stage"
    shutil.copytree(STAGE, stage)
    methods = stage / "qupath" / "lib" / "scripting" / "QP.groovy"
    text = methods.read_text("utf-8").replace("    static void removeDetections() {}\n", "")
    methods.write_text(text, "utf-8")
    write_result(tmp_path)
    file = tmp_path / "scenes.groovy"
    scenes = "['import_results', 'run_wsi_engine'].each { run(it + '.groovy', [results]) }"
    file.write_text(PROLOGUE + scenes, "utf-8")
    printed = groovy("-cp", stage, f"-Dproject={tmp_path}", file, tmp_path, SCRIPTS)
    assert [line.split(",")[0] for line in printed.splitlines()] == [
        "import_results.groovy needs QuPath 0.6 or later: before",
        "run_wsi_engine.groovy needs QuPath 0.6 or later",
    ]
