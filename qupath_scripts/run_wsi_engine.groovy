/*
 * Runs wsi-engine on the image, within what you selected, and brings in the nuclei.
 *
 * Where:    QuPath 0.6 to 0.7, script editor with the image open: Run, or Run for project; or
 *           QuPath script -p project.qpproj -s run_wsi_engine.groovy
 * Needs:    wsi-engine installed on this computer, and import_results.groovy in SCRIPTS
 * Writes:   <project>/wsi_engine/results/<slide>/, <project>/wsi_engine/roi/<slide>.geojson
 * Settings: below.
 *
 * The selected annotations bound the work; with none selected, all that you drew and that have an
 * area; with none drawn, the tissue of the whole slide. What the engine itself brought, such as tissue
 * and places of doubt, bounds the work only where it is selected.
 */
import static qupath.lib.scripting.QP.*
import qupath.lib.io.GsonTools

// Where QuPath does not find it, give the full path: ['C:/tools/wsi/Scripts/wsi-engine.exe'],
// ['/home/me/.venv/bin/wsi-engine'], or ['/usr/bin/python3', '-m', 'wsi_engine'].
def COMMAND = ['wsi-engine']
def OPTIONS = []                 // such as ['--model', 'watershed', '--device', 'cuda']
def PIXEL_SIZE_OF_QUPATH = false // where the file's own is missing or wrong, and you set it here
def RESULTS = buildFilePath(PROJECT_BASE_DIR, 'wsi_engine', 'results')
def ROI_FOLDER = buildFilePath(PROJECT_BASE_DIR, 'wsi_engine', 'roi')
def SCRIPTS = buildFilePath(PROJECT_BASE_DIR, 'scripts')

if (!qupath.lib.scripting.QP.methods.any { it.name == 'removeDetections' }) {
    println 'run_wsi_engine.groovy needs QuPath 0.6 or later, to bring in the nuclei: run  wsi-engine run <slide>  and drag nuclei.geojson.gz onto the image instead'
    return
}

// An entry of a project may show the file turned, mirrored or cut: there, coordinates mean others.
def server = getCurrentServer()
def shownAs = { view ->
    def builder = ''
    try {
        builder = GsonTools.getInstance().toJson(view.getBuilder())
    } catch (Exception ignored) {
    }
    def found = (view.getPath() + builder) =~ /(?i)(Rotated|Flipped|Cropped|Affine)(Transform)?ImageServer|"builderType"\s*:\s*"(rotated|flipped|cropped|affine)"/
    found ? (found[0][1] ?: found[0][3]).toLowerCase() : null
}
def turned = shownAs(server)
if (turned) {
    println "${getCurrentImageNameWithoutExtension()}: this entry of the project shows the file ${turned}, and wsi-engine reads it as it is: nothing is run; add the file to the project as it is"
    return
}
def uri = server.getURIs().find { it.getScheme() == 'file' }
if (uri == null) {
    println "${getCurrentImageNameWithoutExtension()} is no file on this computer: wsi-engine cannot open it"
    return
}
// A query or a fragment names a series within the file.
def slide = new File(new URI(uri.getScheme(), uri.getAuthority(), uri.getPath(), null, null))
def stem = slide.name.contains('.') ? slide.name.substring(0, slide.name.lastIndexOf('.')) : slide.name

def hasArea = { it.isAnnotation() && it.getROI()?.isArea() }
// As import_results.groovy marks them, or as the engine's own files, dragged onto the image, have them.
def isOfEngine = {
    def kind = it.getPathClass()?.toString()
    it.getMetadata().containsKey('_wsi_engine') || it.isLocked() && kind in ['Tissue', 'Blur', 'Pen', 'Fold', 'No nuclei'] &&
        it.getName() ==~ /${kind} \d+/
}
def regions = getSelectedObjects().findAll(hasArea) ?: getAnnotationObjects().findAll { hasArea(it) && !isOfEngine(it) }
mkdirs(RESULTS)
def command = COMMAND + ['run', slide.absolutePath, '-o', RESULTS]
def roi = new File(buildFilePath(ROI_FOLDER, stem + '.geojson'))
def before = roi.exists() ? roi.text : ''
roi.delete()
if (regions) {
    mkdirs(ROI_FOLDER)
    exportObjectsToGeoJson(regions, roi.path, 'FEATURE_COLLECTION')
    command += ['--roi', roi.path]
}
// Other regions, another result; for the same ones a run that was stopped goes on.
if (before != (roi.exists() ? roi.text : '')) {
    command += '--force'
}
if (PIXEL_SIZE_OF_QUPATH) {
    command += ['--mpp', String.valueOf(server.getPixelCalibration().getAveragedPixelSizeMicrons())]
}
command = (command + OPTIONS).collect { it.toString() }

println "${slide.name}: " + command.join(' ')
def builder = new ProcessBuilder(command)
builder.redirectErrorStream(true)
builder.environment().putAll([PYTHONUTF8: '1', PYTHONUNBUFFERED: '1'])
def process
try {
    process = builder.start()
} catch (IOException e) {
    println "${COMMAND[0]} does not start (${e.message}): give its full path as COMMAND at the top of this script"
    return
}
process.getOutputStream().close()
try {
    process.getInputStream().eachLine('UTF-8') { println it }
} finally {
    // When the script is stopped, so is the run; the same command goes on from there.
    process.destroy()
}
def code = process.waitFor()
if (!(code in [0, 3])) {
    println "${slide.name}: wsi-engine ended with code ${code}, nothing is imported"
    return
}

def script = new File(SCRIPTS, 'import_results.groovy')
if (!script.isFile()) {
    println "${slide.name}: done; run import_results.groovy to see the nuclei (put it in ${SCRIPTS} and it runs by itself)"
    return
}
binding.setVariable('args', [RESULTS] as String[])
evaluate(script)
