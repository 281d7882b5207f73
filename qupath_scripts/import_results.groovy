/*
 * Imports what wsi-engine found on the open image.
 *
 * Where:    QuPath 0.5 to 0.7, script editor with an image open, or
 *           QuPath script -p project.qpproj -s import_results.groovy -a RESULTS
 * Settings: RESULTS, the folder that was given to `wsi-engine run -o`.
 *
 * Replaces all detections of the image; annotations are kept, and those that bound the run
 * are added where the image lacks them. Split files are all read.
 */

def RESULTS = args ? args[0] : buildFilePath(PROJECT_BASE_DIR, 'wsi_engine', 'results')

def name = getCurrentImageNameWithoutExtension()
def folder = new File(RESULTS, name)
def files = folder.listFiles()?.findAll { it.name ==~ /nuclei(_\d+)?\.geojson\.gz/ }?.sort()
if (!files) {
    println "No result of ${name} in ${RESULTS}: run  wsi-engine run <slide> -o ${RESULTS}"
    return
}

removeDetections()
def regions = new File(folder, 'regions.geojson')
if (regions.exists()) {
    def known = getAnnotationObjects().collect { it.getID() } as Set
    addObjects(qupath.lib.io.PathIO.readObjects(regions).findAll { !(it.getID() in known) })
}
files.each { importObjectsFromFile(it.absolutePath) }
resolveHierarchy()
fireHierarchyUpdate()
println "${name}: ${getDetectionObjects().size()} nuclei from ${files.size()} file(s)"
