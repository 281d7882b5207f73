// What Nextflow is for one script: prints the commands of one of its processes.
//
//     groovy nextflow_stage.groovy main.nf PARAMETERS PROCESS GIVEN      both in JSON
import groovy.json.JsonSlurper
import org.codehaus.groovy.control.CompilerConfiguration

def json = new JsonSlurper()
def configuration = new CompilerConfiguration(scriptBaseClass: Stage.name)
def binding = new Binding(
    params: new Parameters(json.parseText(args[1])), nextflow: [enable: [:]], log: 'log')
def script = new GroovyShell(this.class.classLoader, binding, configuration).parse(new File(args[0]))
script.run()
assert script.entry != null
print script.commands(args[2], json.parseText(args[3]))

/** The words of a script: `process NAME { }` and `workflow { }`. */
abstract class Stage extends Script {
    Map<String, Closure> processes = [:]
    Closure entry

    def methodMissing(String name, Object given) {
        if (given.size() == 1 && given[0] instanceof Closure) {
            return [name, given[0]]
        }
        throw new MissingMethodException(name, getClass(), given)
    }

    void process(List named) { processes[named[0]] = named[1] }

    void workflow(Closure body) { entry = body }

    Place file(Object path) { new Place(new File(path.toString())) }

    String commands(String name, Map given) {
        Closure body = processes[name]
        body.delegate = new Task(given)
        body.resolveStrategy = Closure.DELEGATE_FIRST
        body().toString().stripIndent()
    }
}

class Place {
    File at
    Place(File at) { this.at = at }
    Place toAbsolutePath() { new Place(at.absoluteFile) }
    String toString() { at.path }
}

/** Directives and declarations, which say nothing of the commands, and what a task is given. */
class Task {
    Map given
    Task(Map given) { this.given = given }
    def propertyMissing(String name) {
        if (given.containsKey(name)) {
            return given[name]
        }
        throw new MissingPropertyException(name, getClass())
    }
    void tag(Object text) { }
    void val(Object name) { }
    void path(Map options, Object name) { }
}

/** Parameters: what the command line gives wins over what the script sets. */
class Parameters extends HashMap<String, Object> {
    Parameters(Map given) { given.each { name, value -> super.put(name, value) } }
    Object put(String name, Object value) { containsKey(name) ? get(name) : super.put(name, value) }
}
