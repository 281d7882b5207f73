"""The Groovy scripts: they say what they do, and call nothing that QuPath 0.5 to 0.7 lacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[1] / "qupath_scripts").glob("*.groovy"))

# Static methods of qupath.lib.scripting.QP, the default import of scripts.
QP = {
    *("addObjects", "buildFilePath", "exportObjectsToGeoJson", "fireHierarchyUpdate"),
    *("getAnnotationObjects", "getCurrentImageNameWithoutExtension", "getCurrentServer"),
    *("getDetectionObjects", "getSelectedObjects", "mkdirs", "removeDetections", "removeObjects"),
    *("resolveHierarchy",),
}
# Methods of PathObject, ROI, ImageServer, PixelCalibration and PathIO.
QUPATH = {
    *("isAnnotation", "isDetection", "isLocked", "getID", "getName", "getPathClass", "getROI"),
    *("getMeasurements", "getMetadata"),
    *("isArea", "getArea", "getCentroidX", "getCentroidY", "getBoundsX", "getBoundsY"),
    *("getBoundsWidth", "getBoundsHeight", "getImagePlane", "contains"),
    *("getURIs", "getPixelCalibration", "hasPixelSizeMicrons", "getPixelWidthMicrons"),
    *("getPixelHeightMicrons", "getAveragedPixelSizeMicrons", "readObjects"),
}
# Of Java and Groovy.
LANGUAGE = {
    *("abs", "floor", "sqrt", "round", "toString", "valueOf", "doubleValue", "intdiv", "isNaN"),
    *("isInfinite", "size", "isEmpty", "add", "addAll", "removeAll", "get", "put", "putAll"),
    *("containsKey", "keySet", "collect", "collectMany", "countBy", "find", "findAll", "any"),
    *("every", "each", "sort", "sum", "unique", "join", "split", "replace", "replaceAll"),
    *("substring", "lastIndexOf", "withDefault", "listFiles", "isDirectory", "isFile"),
    *("exists", "delete"),
    *("withWriter", "write", "eachLine", "getPath", "getScheme", "getAuthority", "start"),
    *("destroy", "waitFor", "environment", "redirectErrorStream", "getInputStream"),
    *("getOutputStream", "close", "setVariable", "evaluate", "println", "File", "URI", "HashSet"),
    *("LinkedHashSet", "ProcessBuilder", "if", "for", "catch"),
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
    for word in ("Where:", "QuPath 0.5 to 0.7", "QuPath script -p", "Settings:"):
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
    assert set(imports) <= {"static qupath.lib.scripting.QP.*", "qupath.lib.io.PathIO"}
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
