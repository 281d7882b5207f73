/*
 * Writes a table with one row per annotation: how many nuclei lie in it, of which class, and how
 * they measure.
 *
 * Where:    QuPath 0.5 to 0.7, script editor: Run, or Run for project; or
 *           QuPath script -p project.qpproj measurement_table.groovy
 * Writes:   <project>/wsi_engine/tables/<image>.csv, UTF-8
 * Settings: below.
 *
 * A nucleus belongs to every annotation that holds its centre. Columns:
 *   image, region_id, region, class   the image, and the id, name and class of the annotation
 *   area_px, area_mm2                 of the annotation; mm2 is empty without a pixel size
 *   nuclei, nuclei_per_mm2
 *   count: <class>                    for each class of nuclei; `count: unclassified` for none
 *   mean: <measurement>, sd: <measurement>, median: <measurement>
 *                                     for each measurement; sd is that of the sample (n - 1);
 *                                     NaN and missing values are passed over
 */
import static qupath.lib.scripting.QP.*

def FOLDER = buildFilePath(PROJECT_BASE_DIR, 'wsi_engine', 'tables')
def MEASUREMENTS = []    // such as ['Area µm^2', 'Circularity']; empty for all there are

def image = getCurrentImageNameWithoutExtension()
def annotations = getAnnotationObjects().findAll { it.getROI()?.isArea() }
if (annotations.isEmpty()) {
    println "${image}: no annotations with an area, no table is written"
    return
}
def nuclei = getDetectionObjects()
def classOf = { it.getPathClass() == null ? 'unclassified' : it.getPathClass().toString() }
def classes = nuclei.collect(classOf).unique().sort()
def names = MEASUREMENTS ?: nuclei.collectMany(new LinkedHashSet()) { it.getMeasurements().keySet() } as List
def calibration = getCurrentServer().getPixelCalibration()
def mm2PerPixel = calibration.hasPixelSizeMicrons() ?
    calibration.getPixelWidthMicrons() * calibration.getPixelHeightMicrons() / 1e6d : Double.NaN

def isIn = { roi, x, y ->
    x >= roi.getBoundsX() && x <= roi.getBoundsX() + roi.getBoundsWidth() &&
        y >= roi.getBoundsY() && y <= roi.getBoundsY() + roi.getBoundsHeight() && roi.contains(x, y)
}
def cell = { value ->
    if (value == null || value instanceof Double && (value.isNaN() || value.isInfinite())) return ''
    def text = value.toString()
    text =~ /[",\r\n]/ ? '"' + text.replace('"', '""') + '"' : text
}
def statistics = { List values ->
    def n = values.size()
    if (n == 0) return [null, null, null]
    def mean = values.sum() / n
    def sd = n < 2 ? null : Math.sqrt(values.collect { (it - mean) * (it - mean) }.sum() / (n - 1))
    def sorted = values.sort(false)
    def median = n % 2 ? sorted[n.intdiv(2)] : (sorted[n.intdiv(2) - 1] + sorted[n.intdiv(2)]) / 2
    [mean, sd, median]
}

def header = ['image', 'region_id', 'region', 'class', 'area_px', 'area_mm2', 'nuclei', 'nuclei_per_mm2'] +
    classes.collect { 'count: ' + it } +
    names.collectMany { ['mean: ' + it, 'sd: ' + it, 'median: ' + it] }
def rows = annotations.collect { annotation ->
    def roi = annotation.getROI()
    def inside = nuclei.findAll {
        def shape = it.getROI()
        shape.getImagePlane() == roi.getImagePlane() && isIn(roi, shape.getCentroidX(), shape.getCentroidY())
    }
    def mm2 = roi.getArea() * mm2PerPixel
    def counts = inside.countBy(classOf)
    [image, annotation.getID(), annotation.getName(), annotation.getPathClass(), roi.getArea(), mm2,
     inside.size(), (double) (inside.size() / mm2)] +
        classes.collect { counts[it] ?: 0 } +
        names.collectMany { measurement ->
            def values = inside.collect { it.getMeasurements()[measurement] }
            statistics(values.findAll { it != null && !it.isNaN() }.collect { it.doubleValue() })
        }
}

mkdirs(FOLDER)
def file = new File(FOLDER, image.replaceAll('[\\\\/:*?"<>|]', '_') + '.csv')
file.withWriter('UTF-8') { writer ->
    ([header] + rows).each { row -> writer.write(row.collect(cell).join(',') + '\n') }
}
println "${image}: ${rows.size()} annotations, ${nuclei.size()} nuclei in ${file}"
