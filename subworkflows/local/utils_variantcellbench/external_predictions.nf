//
// Models that are predictions made elsewhere: --predictions PATH[,PATH...], each called as its file
//

include { catalogue } from './parameters'
include { stopWith  } from './parameters'

def predictionFiles() {
    return (params.predictions ?: '').toString().tokenize(',').collect { item -> item.trim() }.findAll { item -> item }.collect { item -> file(item) }
}

// Files of --predictions by the name of their model
def externalPredictions() {
    return predictionFiles().collectEntries { item -> [item.baseName, item] }
}

// Stop with one line for a file that is not there, is of another type or has no plain name of its own; PLAN holds the same rules
def checkPredictions() {
    def known = catalogue('models')
    def taken = known.groups.keySet() + known.entries.keySet() + ['no_skill', 'tech_duplicate', 'truth', 'shuffled_labels', 'predictions']
    def names = predictionFiles().collect { item -> item.baseName }
    predictionFiles().each { item ->
        def name = item.baseName
        if (item.extension != 'h5ad') {
            stopWith("--predictions: not a file of predictions | found ${item.name}; expected <name>.h5ad")
        }
        if (!(name ==~ '[a-z0-9_]+')) {
            stopWith("--predictions: the model is called as its file, which must have a plain name | found ${item.name}; expected a-z, 0-9 and _")
        }
        if (name in taken) {
            stopWith("--predictions: '${name}' is the name of a model or group of the pipeline | rename the file")
        }
        if (names.count(name) > 1) {
            stopWith("--predictions: two files of one name | found ${name}; rename one")
        }
        if (!item.exists()) {
            stopWith("--predictions: file not found | ${item}")
        }
    }
    return null
}
