//
// Checks of weights, licences and alignments, before anything is started
//

include { catalogue } from './parameters'
include { stopWith  } from './parameters'

// File names of one catalogue item: `a | b` means that one of them is enough
def alternatives(item) {
    return item.tokenize('|').collect { name -> name.trim() }
}

// Official files of a catalogue entry's weights that are there; optional ones, shards and checksums included
def officialFiles(weights) {
    def folder = file("${params.weights}/${weights.folder}")
    def ways = weights.containsKey('or') ? [weights, weights['or']] : [weights]
    def names = ways.collectMany { way -> way.files.collectMany { item -> alternatives(item) } } + (weights.optional ?: []) + ['SHA256SUMS']
    def found = names.unique().collect { name -> folder.resolve(name) }.findAll { path -> path.exists() }
    def shards = found.findAll { path -> path.name.endsWith('.index.json') }.collectMany { index -> shardNames(index) }
    return (found + shards.collect { name -> folder.resolve(name) }.findAll { path -> path.exists() }).unique().sort { path -> path.name }
}

// Names of the shards that an index of shards lists; Python says what is wrong with an index that cannot be read
def shardNames(index) {
    try {
        return new groovy.json.JsonSlurper().parseText(index.text).weight_map.values().toSet().sort()
    }
    catch (Exception _problem) {
        return []
    }
}

// What is missing of one way to provide the weights: names, in the words of the catalogue
def missingFiles(weights, way) {
    def folder = file("${params.weights}/${weights.folder}")
    return way.files.collectMany { item ->
        def present = alternatives(item).findAll { name -> folder.resolve(name).exists() }
        if (!present) {
            return [alternatives(item).join(' or ')]
        }
        return present.first().endsWith('.index.json') ? shardNames(folder.resolve(present.first())).findAll { name -> !folder.resolve(name).exists() } : []
    }
}

// Where the weights of a catalogue entry come from, in words
def whereToGet(weights) {
    def ways = weights.containsKey('or') ? [weights, weights['or']] : [weights]
    return 'get ' + ways.collect { way -> "${way.files.collect { item -> alternatives(item).join(' or ') }.join(', ')} from ${way.source}${way.revision ? " (revision ${way.revision})" : ''}" }.join('; or ')
}

// Stop when a checkpoint is missing or its licence was not accepted
def checkWeights(kind, names) {
    def entries = catalogue(kind).entries
    checkLicences(kind, names, entries)
    names.findAll { name -> entries[name].weights }.each { name ->
        def weights = entries[name].weights
        if (!params.weights) {
            stopWith("--${kind} ${name}: weights needed | give --weights DIR with a folder ${weights.folder}; ${whereToGet(weights)} | or choose --${kind} controls")
        }
        def ways = weights.containsKey('or') ? [weights, weights['or']] : [weights]
        def missing = ways.collect { way -> missingFiles(weights, way) }
        if (missing.every { each -> each }) {
            stopWith("--weights: file not found | ${params.weights}/${weights.folder}/${missing.min { each -> each.size() }.first()} (${name}) | ${whereToGet(weights)}")
        }
    }
}

// Non-commercial weights need consent; the message names the licence and the encoders that need none
def checkLicences(kind, names, entries) {
    if (params.accept_noncommercial) {
        return null
    }
    def refused = names.findAll { name -> entries[name].noncommercial }
    if (refused) {
        def free = entries.findAll { _name, entry -> entry.weights && !entry.noncommercial }.keySet()
        def terms = refused.collect { name -> "${name} (${entries[name].licence})" }.join(', ')
        stopWith("--${kind}: licence forbids commercial use: ${terms} | add --accept_noncommercial to accept it, or choose among ${free.join(', ')}")
    }
    return null
}

// Stop when an encoder reads alignments and none were given; Python matches them with the proteins
def checkAlignments(names) {
    def entries = catalogue('encoders').entries
    def needed = names.findAll { name -> entries[name].inputs == 'msas' && !allowsNone(name, entries[name]) }
    if (params.msas && !file(params.msas).isDirectory()) {
        stopWith("--msas: no such folder | ${params.msas}")
    }
    def endings = ['.a3m', '.a2m', '.fasta', '.fa', '.fas', '.afa', '.sto', '.stk', '.stockholm', '.aln', '.clustal'].collectMany { ending -> [ending, "${ending}.gz".toString()] }
    def found = params.msas ? file(params.msas).listFiles().findAll { path -> endings.any { ending -> path.name.toLowerCase().endsWith(ending) } } : []
    if (needed && !found) {
        stopWith("--encoders ${needed.first()}: ${params.msas ? "no alignment in ${params.msas}" : 'alignments needed'} | give --msas DIR with one alignment per protein (docs/encoders/${needed.first()}.md), or allow_no_msa: true in --model_settings, or leave the encoder out")
    }
}

// Whether --model_settings lets an encoder do without alignments
def allowsNone(name, entry) {
    def settings = params.model_settings ? new org.yaml.snakeyaml.Yaml().load(file(params.model_settings).text) : [:]
    def own = settings instanceof Map ? settings[name] : null
    return own instanceof Map && own.containsKey('allow_no_msa') ? own.allow_no_msa == true : entry.settings?.allow_no_msa?.default == true
}
