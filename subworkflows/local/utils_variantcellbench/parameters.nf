//
// Checks of the parameters against nextflow_schema.json, before anything is started
//

include { ownVectors } from './own_vectors'

// Properties of the schema: name -> definition
def schemaProperties() {
    def schema = new groovy.json.JsonSlurper().parse(file("${projectDir}/nextflow_schema.json").toFile())
    return schema['$defs'].values().collectEntries { group -> group.properties }
}

// Text of --help, from the schema
def helpText() {
    def schema = new groovy.json.JsonSlurper().parse(file("${projectDir}/nextflow_schema.json").toFile())
    def lines = ["${workflow.manifest.name} ${workflow.manifest.version}", workflow.manifest.description, '', 'usage: nextflow run . -profile <local|docker|apptainer|slurm|...> --input samplesheet.csv --outdir results', '']
    schema['$defs'].values().each { group ->
        lines << group.title
        group.properties.findAll { _name, spec -> !spec.hidden }.each { name, spec ->
            def values = spec['enum'] ? " {${spec['enum'].join('|')}}" : " [${spec.type}]"
            def initial = spec.containsKey('default') && spec['default'] != '' ? " (default: ${spec['default']})" : ''
            lines << "  --${name.padRight(27)}${spec.description}${values}${initial}"
        }
        lines << ''
    }
    return lines.join('\n')
}

// One clear line that stops the run
def stopWith(message) {
    error("vcb: error: ${message}")
}

// "did you mean 'x'?" for the nearest name, else the known ones
def nearest(name, known) {
    def near = known.toSorted { other -> distance(name, other) }.first()
    return distance(name, near) <= Math.max(2, name.size().intdiv(3)) ? "did you mean '${near}'?" : "known: ${known.toSorted().join(', ')}"
}

// Levenshtein distance between two words
def distance(left, right) {
    def rows = (0..right.size()).toList()
    (1..left.size()).each { i ->
        def previous = rows
        rows = [i]
        right.toLowerCase().eachWithIndex { letter, j ->
            rows << [rows[j] + 1, previous[j + 1] + 1, previous[j] + (left.toLowerCase()[i - 1] == letter ? 0 : 1)].min()
        }
    }
    return rows.last()
}

// Stop with one line for an unknown name, a wrong type, a value out of range or not among the allowed ones
def checkParameters() {
    def known = schemaProperties()
    params.keySet().findAll { name -> !(name in known) && !(name.replace('-', '_') in known) }.sort().each { name ->
        stopWith("unknown parameter --${name} | ${nearest(name.replace('-', '_'), known.keySet() as List)}")
    }
    known.each { name, spec ->
        def value = params[name]
        if (value == null) {
            return null
        }
        if (!hasType(value, spec.type)) {
            stopWith("--${name}: wrong type | found '${value}'; expected ${spec.type}")
        }
        if (spec['enum'] && !(value.toString() in spec['enum'])) {
            stopWith("--${name}: value not allowed | found '${value}'; expected one of ${spec['enum'].join(', ')} | ${nearest(value.toString(), spec['enum'])}")
        }
        if (spec.pattern && !(value.toString() ==~ spec.pattern)) {
            stopWith("--${name}: value not allowed | found '${value}'; expected text like ${spec.pattern} | ${spec.description}")
        }
        if (spec.minimum != null && (value as BigDecimal) < spec.minimum) {
            stopWith("--${name}: out of range | found ${value}; expected at least ${spec.minimum}")
        }
        if (spec.maximum != null && (value as BigDecimal) > spec.maximum) {
            stopWith("--${name}: out of range | found ${value}; expected at most ${spec.maximum}")
        }
        if (spec.format == 'file-path' && !file(value).isFile()) {
            stopWith("--${name}: file not found | ${value}")
        }
        if (value.toString().contains("'") || value.toString().contains('\n')) {
            stopWith("--${name}: quotes and line breaks are not allowed | found ${value}")
        }
        return null
    }
}

def hasType(value, type) {
    if (type == 'boolean') {
        return value instanceof Boolean
    }
    if (type == 'integer') {
        return value instanceof Integer || value instanceof Long
    }
    if (type == 'number') {
        return value instanceof Number
    }
    return !(value instanceof Boolean)
}

// Catalogue assets/<kind>.yml as a map
def catalogue(kind) {
    return new org.yaml.snakeyaml.Yaml().load(file("${projectDir}/assets/${kind}.yml").text)
}

// Entry names of a comma-separated list of names and groups, groups expanded; stops with the nearest name for an unknown one.
// The user's own encoders (--vectors) are known, but are no entries of the catalogue.
def chosen(kind, requested) {
    def known = catalogue(kind)
    def own = kind == 'encoders' ? ownVectors().keySet() : []
    return requested.toString().tokenize(',').collect { item -> item.trim() }.collectMany { item ->
        if (item in known.groups) {
            return known.groups[item]
        }
        if (item in own) {
            return []
        }
        if (!(item in known.entries)) {
            stopWith("--${kind}: unknown ${kind[0..-2]} '${item}' | ${nearest(item, (known.groups.keySet() + known.entries.keySet() + own) as List)}${kind == 'encoders' ? '; for vectors of your own give --vectors FILE' : ''}")
        }
        return [item]
    }.unique()
}

// Encoders of the catalogue in this run: none when no chosen model uses any
def chosenEncoders() {
    def models = catalogue('models').entries
    def encoders = chosen('encoders', params.encoders)
    return chosen('models', params.models).any { name -> models[name].encoder } ? encoders : []
}

// Names of a list parameter; stops with the nearest name for an unknown one
def listed(name, known) {
    def items = params[name].toString().tokenize(',').collect { item -> item.trim() }
    if (!items) {
        stopWith("--${name}: empty list | known: ${known.join(', ')}")
    }
    items.findAll { item -> !(item in known) }.each { item ->
        stopWith("--${name}: unknown name '${item}' | ${nearest(item, known)}")
    }
    return items.unique()
}

// Stop when a folder that a parameter names cannot be written
def checkWritable(name) {
    def folder = file(params[name])
    if (folder.scheme != 'file') {
        return null
    }
    if (folder.exists() && !folder.isDirectory()) {
        stopWith("--${name}: not a folder | ${params[name]}")
    }
    def probe = folder.resolve('.vcb_write_test')
    try {
        folder.mkdirs()
        probe.text = ''
        probe.delete()
    }
    catch (IOException _problem) {
        stopWith("--${name}: cannot be written | ${params[name]}")
    }
    return null
}
