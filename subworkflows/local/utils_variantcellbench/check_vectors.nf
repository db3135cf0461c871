//
// Checks of the user's own vectors, before anything is started; PLAN and VECTORS_IMPORT hold the same rules
//

include { catalogue   } from './parameters'
include { stopWith    } from './parameters'
include { vectorFiles } from './own_vectors'

// Stop with one line for a file that is not there, is of another type, has no plain name of its own, or is not used
def checkVectors() {
    def known = catalogue('encoders')
    def taken = known.groups.keySet() + known.entries.keySet() + ['none']
    def names = vectorFiles().collect { item -> item.baseName }
    def requested = params.encoders.toString().tokenize(',').collect { item -> item.trim() }
    vectorFiles().each { item ->
        def name = item.baseName
        if (!(item.extension in ['h5ad', 'npz'])) {
            stopWith("--vectors: not a file of vectors | found ${item.name}; expected .h5ad or .npz")
        }
        if (!(name ==~ '[a-z0-9_]+')) {
            stopWith("--vectors: the encoder is called as its file, which must have a plain name | found ${item.name}; expected a-z, 0-9 and _")
        }
        if (name in taken) {
            stopWith("--vectors: '${name}' is the name of an encoder or group of the pipeline | rename the file")
        }
        if (names.count(name) > 1) {
            stopWith("--vectors: two files of one name | found ${name}; rename one")
        }
        if (!item.exists()) {
            stopWith("--vectors: file not found | ${item}")
        }
        if (!(name in requested)) {
            stopWith("--vectors: '${name}' is not used | add ${name} to --encoders")
        }
    }
    return null
}
