package qupath.lib.scripting

/** Of QuPath's scripting methods those that the scripts call, over an image that is only a list of objects. */
class QP {
    static final String PROJECT_BASE_DIR = System.getProperty('project')
    static server
    static List objects = []
    static List selected = []

    static getCurrentServer() { server }
    static String getCurrentImageNameWithoutExtension() { 'image' }
    static getCurrentHierarchy() { QP }
    static getDetectionObjects() { objects.findAll { it.isDetection() } }
    static getAnnotationObjects() { objects.findAll { it.isAnnotation() } }
    static getSelectedObjects() { selected }
    static String buildFilePath(String... parts) { parts.join(File.separator) }
    static void mkdirs(String path) { new File(path).mkdirs() }
    static void addObjects(Collection added) { objects.addAll(added) }
    static void removeObjects(Collection removed, boolean keepChildren) {
        assert keepChildren
        objects.removeAll(removed as List)
    }
    static void removeDetections() {}
    static void resolveHierarchy() {}
    static void fireHierarchyUpdate() {}
    static void exportObjectsToGeoJson(Collection exported, String path, String... options) {
        new File(path).text = exported*.name.sort().join(' ')
    }
}
