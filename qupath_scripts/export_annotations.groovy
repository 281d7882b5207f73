/*
 * Writes what you drew to one GeoJSON file per image: regions for `wsi-engine run --roi`, or,
 * with detections, corrected nuclei for `wsi-engine train`.
 *
 * Where:    QuPath 0.5 to 0.7, script editor: Run, or Run for project; or
 *           QuPath script -p project.qpproj export_annotations.groovy [-a detections]
 * Writes:   <project>/wsi_engine/annotations/<image>.geojson
 * Settings: below. The argument `detections` sets INCLUDE_DETECTIONS.
 *
 * A detection is written where its centre lies in an annotation that has an area: there, and
 * only there, all nuclei are taken to be known.
 */
import static qupath.lib.scripting.QP.*
import qupath.lib.io.GsonTools

def FOLDER = buildFilePath(PROJECT_BASE_DIR, 'wsi_engine', 'annotations')
def INCLUDE_DETECTIONS = 'detections' in (args as List)
def ONLY_CLASSES = []    // such as ['Tumor', 'Region*']; empty for all but those of the engine, such as tissue

def name = getCurrentImageNameWithoutExtension()
// An entry of a project may show the file turned, mirrored or cut: there, coordinates mean others.
def shownAs = { view ->
    def builder = ''
    try {
        builder = GsonTools.getInstance().toJson(view.getBuilder())
    } catch (Exception ignored) {
    }
    def found = (view.getPath() + builder) =~ /(?i)(Rotated|Flipped|Cropped|Affine)(Transform)?ImageServer|"builderType"\s*:\s*"(rotated|flipped|cropped|affine)"/
    found ? (found[0][1] ?: found[0][3]).toLowerCase() : null
}
def turned = shownAs(getCurrentServer())
if (turned) {
    println "${name}: this entry of the project shows the file ${turned}, and wsi-engine reads it as it is: nothing is written; add the file to the project as it is"
    return
}
// As import_results.groovy marks them, or as the engine's own files, dragged onto the image, have them.
def isOfEngine = {
    def kind = it.getPathClass()?.toString()
    it.getMetadata().containsKey('_wsi_engine') || it.isLocked() && kind in ['Tissue', 'Blur', 'Pen', 'Fold', 'No nuclei'] &&
        it.getName() ==~ /${kind} \d+/
}
def annotations = getAnnotationObjects().findAll {
    ONLY_CLASSES.isEmpty() ? !isOfEngine(it) : it.getPathClass()?.toString() in ONLY_CLASSES
}
if (annotations.isEmpty()) {
    println "${name}: no annotations, nothing is written"
    return
}

def isIn = { roi, x, y ->
    x >= roi.getBoundsX() && x <= roi.getBoundsX() + roi.getBoundsWidth() &&
        y >= roi.getBoundsY() && y <= roi.getBoundsY() + roi.getBoundsHeight() && roi.contains(x, y)
}
def detections = []
if (INCLUDE_DETECTIONS) {
    def areas = annotations.collect { it.getROI() }.findAll { it.isArea() }
    detections = getDetectionObjects().findAll { detection ->
        def roi = detection.getROI()
        areas.any {
            it.getImagePlane() == roi.getImagePlane() && isIn(it, roi.getCentroidX(), roi.getCentroidY())
        }
    }
}

mkdirs(FOLDER)
// A name may hold what a file name cannot.
def path = buildFilePath(FOLDER, name.replaceAll('[\\\\/:*?"<>|]', '_') + '.geojson')
exportObjectsToGeoJson(annotations + detections, path, 'FEATURE_COLLECTION')
println "${name}: ${annotations.size()} annotations, ${detections.size()} detections in ${path}"
