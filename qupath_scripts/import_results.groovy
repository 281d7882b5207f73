/*
 * Brings what wsi-engine found into the image, in place of what an earlier import brought.
 *
 * Where:    QuPath 0.5 to 0.7, script editor: Run, or Run for project; or
 *           QuPath script -p project.qpproj -s import_results.groovy -a RESULTS [-a MODE]
 * Reads:    run.json in the folders of RESULTS, to find that of the image, and from there
 *           nuclei*.geojson(.gz), regions.geojson, roi.geojson and tissue.geojson
 * Settings: RESULTS, the folder that was given to `wsi-engine run -o`;
 *           MODE, one of
 *             keep     nuclei that you corrected stay (the default)
 *             discard  they are replaced as well
 *             all      every detection of the image is replaced, also those of other tools.
 *
 * How an import is known again: each nucleus that this script adds carries, as metadata
 * `_wsi_engine`, what it was like: class, name, centre, area. If that still fits and the nucleus is
 * not locked, nobody touched it, and it is replaced. If not, someone corrected it: it stays, and
 * a new nucleus of the same id, or with its centre in it, is not added. Detections without this
 * metadata (drawn, or brought by other means) are not touched, but a nucleus whose id is in the
 * image already is not added twice. What you delete comes back with the next import: give it the
 * class Ignore* instead. Annotations are added where their id is not in the image; none is removed.
 */
import static qupath.lib.scripting.QP.*
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO

def RESULTS = args && args[0] ? args[0] : buildFilePath(PROJECT_BASE_DIR, 'wsi_engine', 'results')
def MODE = args && args.length > 1 ? args[1] : 'keep'
def WITH_REGIONS = true
def WITH_TISSUE = false
def MARK = '_wsi_engine'
if (!(MODE in ['keep', 'discard', 'all'])) {
    println "MODE is '${MODE}': give keep, discard or all"
    return
}

// Two files of one name have folders of other names, so the record in each tells whose it is.
def recordOf = { File folder ->
    try {
        GsonTools.getInstance().fromJson(new File(folder, 'run.json').getText('UTF-8'), Map)
    } catch (Exception ignored) {
        null
    }
}
def partsOf = { path -> (path ?: '').toString().replace('\\', '/').split('/').findAll { it } }
def sharedEnd = { List one, List other ->
    def length = 0
    while (length < Math.min(one.size(), other.size()) && one[-1 - length] == other[-1 - length]) length++
    length
}
def name = getCurrentImageNameWithoutExtension()
def paths = getCurrentServer().getURIs().findAll { it.getScheme() == 'file' }
    .collectMany { [new File(it).path, new File(it).canonicalPath] }.collect(partsOf)
def results = (new File(RESULTS).listFiles() ?: []).collect { [folder: it, slide: recordOf(it)] }
def fits = { result ->
    def file = result.slide?.slide?.name
    // An image that is no file of this computer has nothing but its name in the project.
    file && (paths ? paths.any { it[-1] == file } : file == name || file.replaceAll('[.][^.]*$', '') == name)
}
def candidates = results.findAll(fits).collect { result ->
    def end = partsOf(result.slide.slide_path)
    result + [end: paths.collect { sharedEnd(it, end) }.max() ?: 0]
}
def best = candidates.collect { it.end }.max()
def chosen = candidates.findAll { it.end == best }
if (chosen.size() > 1) {
    def names = chosen.collect { it.folder.name }.join(' and ')
    println "${name}: the results ${names} in ${RESULTS} are of slides of this name, and their paths do not tell which is this image's: nothing is imported; give a folder that holds only the right one"
    return
}
def folder = chosen ? chosen[0].folder : null
def files = folder?.listFiles()?.findAll { it.name ==~ /nuclei(_\d+)?\.geojson(\.gz)?/ }?.sort()
if (!files) {
    def wanted = paths.collect { it[-1] }.unique().join(' or ') ?: name
    println "${name}: no result in ${RESULTS} is of ${wanted}: run  wsi-engine run <slide> -o ${RESULTS}"
    return
}

def described = { item ->
    def roi = item.getROI()
    [item.getPathClass()?.toString() ?: '', item.getName() ?: '',
     roi.getCentroidX().round(2), roi.getCentroidY().round(2), roi.getArea().round(2)].join('\t')
}
def sameAs = { item, String mark ->
    def now = described(item).split('\t', -1)
    def then = mark.split('\t', -1)
    // QuPath keeps single precision: numbers that were saved and read again may differ a little.
    then.length == 5 && now[0] == then[0] && now[1] == then[1] &&
        (2..4).every { Math.abs((now[it] as double) - (then[it] as double)) < 0.1 }
}
def isUntouched = { item -> !item.isLocked() && sameAs(item, item.getMetadata().get(MARK)) }

// Everything is read before anything is removed: a broken file leaves the image as it is.
def found = []
files.each { found.addAll(PathIO.readObjects(it)) }

def present = getDetectionObjects()
def brought = present.findAll { it.getMetadata().get(MARK) != null }
def corrected = MODE == 'keep' ? brought.findAll { !isUntouched(it) } : []
def removed = new HashSet(MODE == 'all' ? present : brought)
removed.removeAll(corrected)
def kept = present.findAll { !removed.contains(it) }

// Corrected nuclei by squares of 256 pixels, to find those that hold a new nucleus' centre.
def SIDE = 256
def square = { double at -> (long) Math.floor(at / SIDE) }
def nearby = [:].withDefault { [] }
corrected.each {
    def roi = it.getROI()
    for (column in square(roi.getBoundsX())..square(roi.getBoundsX() + roi.getBoundsWidth()))
        for (row in square(roi.getBoundsY())..square(roi.getBoundsY() + roi.getBoundsHeight()))
            nearby["${column} ${row}".toString()] << roi
}
def isCorrected = { item ->
    def x = item.getROI().getCentroidX()
    def y = item.getROI().getCentroidY()
    def place = "${square(x)} ${square(y)}".toString()
    nearby.containsKey(place) && nearby[place].any { it.contains(x, y) }
}
def ids = new HashSet(kept.collect { it.getID() })
def added = found.findAll { it.isDetection() && !ids.contains(it.getID()) && !isCorrected(it) }
added.each { it.getMetadata().put(MARK, described(it)) }

def regions = []
def alreadyThere = new HashSet(getAnnotationObjects().collect { it.getID() })
def annotationFiles = (WITH_REGIONS ? ['regions.geojson', 'roi.geojson'] : []) + (WITH_TISSUE ? ['tissue.geojson'] : [])
annotationFiles.collect { new File(folder, it) }.findAll { it.isFile() }.each {
    regions.addAll(PathIO.readObjects(it).findAll { it.isAnnotation() && alreadyThere.add(it.getID()) })
}

if (removed.size() == present.size()) removeDetections() else removeObjects(removed as List)
addObjects(added + regions)
resolveHierarchy()
fireHierarchyUpdate()
println "${name}: ${added.size()} nuclei from ${files.size()} file(s) added, ${removed.size()} replaced, " +
    "${corrected.size()} corrected ones kept, ${kept.size() - corrected.size()} other detections untouched, " +
    "${regions.size()} annotations added"
