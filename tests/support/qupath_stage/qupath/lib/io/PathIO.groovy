package qupath.lib.io

import groovy.json.JsonSlurper

/** Reads GeoJSON as QuPath does, as far as rings of one polygon go. */
class PathIO {
    static List readObjects(File file) {
        def stream = file.newInputStream()
        def text = file.name.endsWith('.gz') ? new java.util.zip.GZIPInputStream(stream).getText('UTF-8') : stream.getText('UTF-8')
        new JsonSlurper().parseText(text).features.collect { new PathObject(it) }
    }
}
