"""The Groovy scripts: they say what they do, and call nothing that QuPath 0.5 to 0.7 lacks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.groovy import groovy

SCRIPTS = sorted((Path(__file__).resolve().parents[1] / "qupath_scripts").glob("*.groovy"))

# Static methods of qupath.lib.scripting.QP, the default import of scripts.
QP = {
    *("addObjects", "buildFilePath", "exportObjectsToGeoJson", "fireHierarchyUpdate"),
    *("getAnnotationObjects", "getCurrentImageNameWithoutExtension", "getCurrentServer"),
    *("getDetectionObjects", "getSelectedObjects", "getCurrentHierarchy", "mkdirs"),
    *("resolveHierarchy",),
}
# Methods of PathObject, PathObjectHierarchy, ROI, ImageServer, PixelCalibration, PathIO, GsonTools.
QUPATH = {
    *("removeObjects", "getColor", "getPath", "getBuilder", "getWidth", "getHeight", "toJson"),
    *("isAnnotation", "isDetection", "isLocked", "getID", "getName", "getPathClass", "getROI"),
    *("getMeasurements", "getMetadata"),
    *("isArea", "getArea", "getCentroidX", "getCentroidY", "getBoundsX", "getBoundsY"),
    *("getBoundsWidth", "getBoundsHeight", "getImagePlane", "contains"),
    *("getURIs", "getPixelCalibration", "hasPixelSizeMicrons", "getPixelWidthMicrons"),
    *("getPixelHeightMicrons", "getAveragedPixelSizeMicrons", "readObjects", "getInstance"),
    *("fromJson",),
}
# Of Java and Groovy.
LANGUAGE = {
    *("abs", "floor", "sqrt", "round", "toString", "valueOf", "doubleValue", "intdiv", "isNaN"),
    *("isInfinite", "size", "isEmpty", "add", "addAll", "removeAll", "get", "put", "putAll"),
    *("containsKey", "keySet", "collect", "collectMany", "countBy", "find", "findAll", "any"),
    *("every", "each", "sort", "sum", "unique", "join", "split", "replace", "replaceAll"),
    *("substring", "lastIndexOf", "withDefault", "listFiles", "isDirectory", "isFile"),
    *("exists", "delete", "getText", "min", "max"),
    *("withWriter", "write", "eachLine", "getPath", "getScheme", "getAuthority", "start"),
    *("remove", "values", "toLowerCase", "TreeMap", "contains"),
    *("destroy", "waitFor", "environment", "redirectErrorStream", "getInputStream"),
    *("getOutputStream", "close", "setVariable", "evaluate", "println", "File", "URI", "HashSet"),
    *("LinkedHashSet", "ProcessBuilder", "if", "for", "while", "catch"),
}

_TOKEN = re.compile(
    r"""(?P<comment>/\*.*?\*/|//[^\n]*)|(?P<single>'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<double>"(?:[^"\\\n]|\\.)*")|(?P<pattern>(?<=~[ ])/(?:[^/\\\n]|\\.)+/)""",
    re.DOTALL | re.VERBOSE,
)


def code_of(script: Path) -> str:
    """The code without comments and texts; of a text with ``${...}`` the code stays."""

    def kept(match: re.Match[str]) -> str:
        if match.lastgroup != "double":
            return " "
        return " ".join(f"({part})" for part in re.findall(r"\$\{([^}]*)\}", match[0])) or " "

    return _TOKEN.sub(kept, script.read_text(encoding="utf-8"))


def every_script(test):
    return pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)(test)


def test_the_four_scripts_are_there():
    assert [path.stem for path in SCRIPTS] == [
        "export_annotations",
        "import_results",
        "measurement_table",
        "run_wsi_engine",
    ]


@every_script
def test_the_header_says_what_where_and_which_settings(script):
    header = re.match(r"/\*(.*?)\*/", script.read_text(encoding="utf-8"), re.DOTALL)
    assert header is not None
    # What imports needs metadata of detections, which QuPath keeps since 0.6.
    first = "0.6" if script.stem in ("import_results", "run_wsi_engine") else "0.5"
    for word in ("Where:", f"QuPath {first} to 0.7", "QuPath script -p", "Settings:"):
        assert word in header[1]
    named = set(re.findall(r"^ \* (Reads|Writes): ", header[0], re.MULTILINE))
    assert named


@every_script
def test_settings_stand_at_the_top(script):
    code = code_of(script)
    settings = [match.start() for match in re.finditer(r"^def [A-Z_]{3,} =", code, re.MULTILINE)]
    others = [match.start() for match in re.finditer(r"^def [a-z]\w* =", code, re.MULTILINE)]
    assert settings
    assert min(settings) < min(others)
    assert script.stem == "import_results" or max(settings) < min(others)


@every_script
def test_only_calls_that_are_known_to_exist(script):
    code = code_of(script)
    local = set(re.findall(r"\bdef (\w+) = \{", code))
    called = set(re.findall(r"\b(\w+)\(", code))
    assert called - local - QP - QUPATH - LANGUAGE == set()
    methods = set(re.findall(r"(?<!\.)\.(\w+)\s*[({]", code))
    assert methods - QUPATH - LANGUAGE == set()


@every_script
def test_no_class_of_the_user_interface(script):
    """It must run without a window."""
    imports = re.findall(r"^import (.*)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert "static qupath.lib.scripting.QP.*" in imports
    known = {"static qupath.lib.scripting.QP.*", "qupath.lib.io.GsonTools", "qupath.lib.io.PathIO"}
    assert set(imports) <= known
    assert not re.search(r"\b(QuPathGUI|Dialogs|javafx|Platform|gui)\b", code_of(script))


@every_script
def test_brackets_are_closed(script):
    open_brackets = []
    for sign in re.findall(r"[()\[\]{}]", code_of(script)):
        if sign in "([{":
            open_brackets.append(sign)
        else:
            assert open_brackets
            assert open_brackets.pop() + sign in ("()", "[]", "{}")
    assert open_brackets == []


@every_script
def test_it_is_utf_8_with_plain_line_ends(script):
    raw = script.read_bytes()
    assert b"\r" not in raw
    assert b"\t" not in raw
    raw.decode("utf-8")


# --- whose result a folder has ----------------------------------------------------------------

CHOICE = re.compile(r"^def recordOf = .*?(?=^def files = )", re.DOTALL | re.MULTILINE)

# What QuPath gives to the script.
STAGE = """
class GsonTools {
    static getInstance() { new GsonTools() }
    def fromJson(String text, Class kind) { new groovy.json.JsonSlurper().parseText(text) }
}
def getCurrentImageNameWithoutExtension() { 'any' }
"""


def test_a_result_is_found_by_its_record_and_not_by_the_name_of_its_folder(tmp_path):
    """The results of p1/a.svs and p2/a.svs are ``a`` and ``p2-a``, or ``p1-a`` and ``p2-a``."""
    text = next(path for path in SCRIPTS if path.stem == "import_results").read_text("utf-8")
    choice = CHOICE.search(text)
    assert choice is not None
    cases = [
        ({"a": "/x/p1/a.svs", "p2-a": "/x/p2/a.svs"}, "/x/p2/a.svs", "p2-a"),
        ({"a": "/x/p1/a.svs", "p2-a": "/x/p2/a.svs"}, "/x/p1/a.svs", "a"),
        ({"p1-a": "C:\\x\\p1\\a.svs", "p2-a": "C:\\x\\p2\\a.svs"}, "/mnt/p1/a.svs", "p1-a"),
        ({"p1-a": "/x/p1/a.svs", "p2-a": "/x/p2/a.svs"}, "/mnt/a.svs", "doubt"),
        ({"a": "/x/p1/b.svs"}, "/x/p1/a.svs", "null"),
        ({"other": "/x/p1/a.svs"}, "/elsewhere/a.svs", "other"),
    ]
    script = [STAGE, "def choose(String RESULTS, URI image) {"]
    body = choice[0].replace("server.getURIs()", "[image]")
    script += [re.sub(r'println ".*"\n    return\b', "return 'doubt'", body)]
    script += [
        "folder?.name",
        "}",
        "args[0].split(';').each {",
        "    def (where, image) = it.split('=')",
    ]
    script += ["    println choose(where, new URI(image))", "}"]
    file = tmp_path / "choice.groovy"
    file.write_text("\n".join(script), encoding="utf-8")
    asked = []
    for number, (results, image, _) in enumerate(cases):
        for folder, path in results.items():
            record = {"slide": {"name": re.split(r"[/\\]", path)[-1]}, "slide_path": path}
            (tmp_path / str(number) / folder).mkdir(parents=True)
            (tmp_path / str(number) / folder / "run.json").write_text(json.dumps(record), "utf-8")
        (tmp_path / str(number) / "notes").mkdir()
        asked.append(f"{tmp_path / str(number)}=file://{image}")
    assert groovy(file, ";".join(asked)).split() == [found for *_, found in cases]
