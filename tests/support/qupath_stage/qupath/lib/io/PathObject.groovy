package qupath.lib.io

class PathObject {
    UUID id
    String name
    String pathClass
    String type
    boolean locked
    Integer color
    ROI roi
    Map metadata = [:]
    Map measurements = [:]

    PathObject(Map feature) {
        def properties = feature.properties
        id = UUID.fromString(feature.id)
        type = properties.objectType
        name = properties.name
        pathClass = properties.classification?.name
        locked = properties.isLocked ?: false
        roi = new ROI(feature.geometry.coordinates[0])
        metadata.putAll(properties.metadata ?: [:])
        measurements.putAll(properties.measurements ?: [:])
    }

    UUID getID() { id }
    ROI getROI() { roi }
    boolean isAnnotation() { type == 'annotation' }
    boolean isDetection() { type == 'detection' }
}
