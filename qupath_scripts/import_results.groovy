/*
 * Brings what wsi-engine found into the image, in place of what an earlier import brought.
 *
 * Where:    QuPath 0.6 to 0.7, script editor: Run, or Run for project; or
 *           QuPath script -p project.qpproj -s import_results.groovy -a RESULTS [-a MODE]
 * Reads:    run.json in the folders of RESULTS, to find that of the image, and from there
 *           nuclei*.geojson(.gz), regions.geojson, roi.geojson and tissue.geojson
 * Settings: RESULTS, the folder that was given to `wsi-engine run -o`;
 *           MODE, one of
 *             keep     nuclei that you corrected stay (the default)
 *             discard  they are replaced as well
 *             all      every detection of the image is replaced, also those of other tools.
 *
 * How an import is known again: each object that this script adds carries, as metadata
 * `_wsi_engine`, what it was like: class, name, centre, area, own colour, metadata. (QuPath 0.5 keeps
 * no metadata of detections, so it needs 0.6.) If that still fits and the nucleus is not locked,
 * nobody touched it, and it is replaced. If not, someone corrected it: it stays, and a new nucleus of
 * the same id, or with its centre in it, is not added. Detections without this metadata (drawn, or
 * brought by other means) are not touched, but a nucleus whose id is in the image already is not added
 * twice. What you delete comes back with the next import: give it the class Ignore* instead.
 *
 * Annotations that the engine made, such as tissue, are replaced where nobody touched them. Those that
 * you drew stay as they are, and get the numbers of their region, unless you drew them anew since.
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

if (!qupath.lib.scripting.QP.methods.any { it.name == 'removeDetections' }) {
    println 'import_results.groovy needs QuPath 0.6 or later: before, QuPath keeps no metadata of nuclei, and a second import could not tell yours from the engine\'s; drag nuclei.geojson.gz onto the image instead'
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
    println "${getCurrentImageNameWithoutExtension()}: this entry of the project shows the file ${turned}, and nuclei would lie elsewhere: nothing is imported; add the file to the project as it is"
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
def paths = server.getURIs().findAll { it.getScheme() == 'file' }
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

// The record states the size of the whole file, whatever the name of the entry.
def bounds = chosen ? chosen[0].slide.slide?.bounds : null
if (bounds && (bounds.width as int != server.getWidth() || bounds.height as int != server.getHeight())) {
    println "${name}: the image has ${server.getWidth()} x ${server.getHeight()} pixels, the slide of the result ${bounds.width as int} x ${bounds.height as int}: nothing is imported; add the file to the project as it is"
    return
}

def described = { item ->
    def roi = item.getROI()
    def own = new TreeMap(item.getMetadata())
    own.remove(MARK)
    [item.getPathClass(), item.getName(), roi.getCentroidX().round(2), roi.getCentroidY().round(2),
     roi.getArea().round(2), item.getColor(), own ?: null].collect { it == null ? '' : it.toString().replace('\t', ' ') }.join('\t')
}
def sameAs = { item, String mark ->
    def now = described(item).split('\t', -1)
    def then = mark.split('\t', -1)
    // QuPath keeps single precision: numbers that were saved and read again may differ a little.
    // What an earlier import noted ends with the area.
    then.length in [5, 7] && (0..<then.length).every {
        it in 2..4 ? Math.abs((now[it] as double) - (then[it] as double)) < 0.1 : now[it] == then[it]
    }
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

// Regions come first: they carry the numbers.
def annotationsIn = { String file ->
    def path = new File(folder, file)
    path.isFile() ? PathIO.readObjects(path).findAll { it.isAnnotation() } : []
}
def tissue = annotationsIn('tissue.geojson')
def tissueIds = new HashSet(tissue.collect { it.getID() })
def regions = [:]
def wanted = (WITH_REGIONS ? annotationsIn('regions.geojson') + annotationsIn('roi.geojson') : []) + (WITH_TISSUE ? tissue : [])
wanted.each { if (!regions.containsKey(it.getID())) regions.put(it.getID(), it) }

def drawn = getAnnotationObjects()
def refreshed = drawn.findAll {
    def mark = it.getMetadata().get(MARK)
    mark == null ? tissueIds.contains(it.getID()) : sameAs(it, mark)
}
def stays = drawn.findAll { !refreshed.contains(it) }
def isSamePlace = { one, other ->
    Math.abs(one.getCentroidX() - other.getCentroidX()) < 0.1 && Math.abs(one.getCentroidY() - other.getCentroidY()) < 0.1 &&
        Math.abs(one.getArea() - other.getArea()) <= 1e-4d * other.getArea() + 0.1
}
def numbered = stays.findAll { regions.containsKey(it.getID()) && isSamePlace(it.getROI(), regions.get(it.getID()).getROI()) }
numbered.each { it.getMeasurements().putAll(regions.get(it.getID()).getMeasurements()) }
def ownIds = new HashSet(stays.collect { it.getID() })
def addedRegions = regions.values().findAll { !ownIds.contains(it.getID()) }
// A region that the user drew and that is not in the image any more comes back as the user's.
addedRegions.findAll { tissueIds.contains(it.getID()) }.each { it.getMetadata().put(MARK, described(it)) }

// Children stay: what you drew within a piece of tissue is not part of it.
getCurrentHierarchy().removeObjects((removed as List) + refreshed, true)
addObjects(added + addedRegions)
resolveHierarchy()
fireHierarchyUpdate()
println "${name}: ${added.size()} nuclei from ${files.size()} file(s) added, ${removed.size()} replaced, " +
    "${corrected.size()} corrected ones kept, ${kept.size() - corrected.size()} other detections untouched, " +
    "${addedRegions.size()} annotations added, ${refreshed.size()} of them anew, ${numbered.size()} of yours given numbers"
