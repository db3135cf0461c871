//
// The store: converted weights and vectors that are kept across runs, under names that say what they were made from
//

include { codeDigest    } from '../utils_variantcellbench/code'
include { officialFiles } from '../utils_variantcellbench/weights'

// Folder of the store; a -stub run has one of its own, so that empty files never enter the real one
def storeFolder() {
    return workflow.stubRun ? "${workflow.workDir.toUriString()}/stub_store" : file(params.store).toUriString()
}

// First 16 digits of the SHA-256 of anything that can be written as JSON
def shortHash(content) {
    def digest = java.security.MessageDigest.getInstance('SHA-256')
    digest.update(groovy.json.JsonOutput.toJson(content).getBytes('UTF-8'))
    return digest.digest().encodeHex().toString().take(16)
}

// Digest of an executable and of what an encoder with a network imports
def networkCode(executable, entry) {
    def module = (entry.module ?: 'plm.encoder').replace('.', '/')
    return codeDigest([executable, "vcbench/encoders/${module}.py".toString(), "vcbench/encoders/${entry.family}/network.py".toString()])
}

// Folder name of converted weights: encoder, catalogue entry, type, code and the official files (name, size, time of change)
def convertedName(name, entry, settings, code) {
    def files = officialFiles(entry.weights).collect { path -> [path.name, path.size(), path.lastModified()] }
    def facts = [entry.subMap(['family', 'module', 'head', 'tokens', 'architecture', 'weights']), settings.dtype, code, files]
    return "${name}.${shortHash(facts)}".toString()
}

// Folder name of vectors: encoder, settings that change them, code, pinned libraries, weights (their record) and alignments
def vectorsName(name, entry, settings, code, record, alignments) {
    def own = settings.findAll { setting, _value -> setting != 'batch_tokens' }.sort()
    def pins = file("${projectDir}/modules/local/${entry.process.toLowerCase() - '_encode'}/requirements.txt").text
    return "${name}.${shortHash([own, code, pins, record, alignments])}".toString()
}

// SHA-256 of every file in the folder of alignments: [[name, hash], ...]
def alignmentHashes() {
    return file(params.msas).listFiles().findAll { path -> path.isFile() }.sort { path -> path.name }.collect { path ->
        def digest = java.security.MessageDigest.getInstance('SHA-256')
        path.withInputStream { stream -> stream.eachByte(1 << 20) { buffer, length -> digest.update(buffer, 0, length) } }
        [path.name, digest.digest().encodeHex().toString()]
    }
}

// Complete shards of an encoder in a folder of the store: [[vectors: path, list: path, keys: set], ...] by name
def shardsIn(folder, name) {
    def lists = folder.exists() ? folder.listFiles().findAll { path -> path.name.startsWith("${name}.") && path.name.endsWith('.keys.txt') } : []
    return lists
        .collect { list -> [list: list, vectors: list.resolveSibling(list.name.replace('.keys.txt', '.vectors.h5ad'))] }
        .findAll { shard -> shard.vectors.exists() }
        .collect { shard -> shard + [keys: shard.list.readLines().findAll { line -> !line.startsWith('#') } as Set] }
        .sort { shard -> shard.list.name }
}

// The shards among [[vectors: path, list: path], ...] that are needed for these keys
def holding(shards, keys) {
    def open = keys as LinkedHashSet
    return shards.findAll { shard -> open.removeAll(shard.list.readLines()) }
}

// What the store has of the wanted keys: [shards that hold some of them, keys that none holds]
def searched(folder, name, wanted) {
    def missing = wanted as LinkedHashSet
    def used = shardsIn(folder, name).findAll { shard -> missing.removeAll(shard.keys) }
    return [used, missing as List]
}
