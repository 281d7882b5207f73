package qupath.lib.io

import groovy.json.JsonOutput
import groovy.json.JsonSlurper

class GsonTools {
    static getInstance() { new GsonTools() }
    def fromJson(String text, Class kind) { new JsonSlurper().parseText(text) }
    String toJson(Object builder) { JsonOutput.toJson(builder) }
}
