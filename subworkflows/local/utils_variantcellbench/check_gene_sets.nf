//
// Checks of --gene_sets and what needs it before anything runs
//

include { catalogue } from './parameters'
include { listed    } from './parameters'
include { stopWith  } from './parameters'

// Stop with one line for a file that is not there or holds no sets, and for a set that it does not hold
def checkGeneSets(encoders) {
    if (!params.gene_sets) {
        def needing = encoders.findAll { name -> catalogue('encoders').entries[name].inputs == 'gene_sets' }
        if (needing) {
            stopWith("--encoders ${needing.first()}: needs --gene_sets | give a GMT file (docs/encoders/${needing.first()}.md), or leave the encoder out")
        }
        if (params.fixed_sets) {
            stopWith('--fixed_sets: needs --gene_sets | give the GMT file these sets are in')
        }
        return
    }
    def given = file(params.gene_sets)
    if (!given.isFile()) {
        stopWith("--gene_sets: file not found | ${params.gene_sets}")
    }
    def sets = given.readLines().findAll { line -> line.trim() }.collect { line -> line.split('\t') as List }
    if (!sets || sets.any { fields -> fields.size() < 3 || !fields[0].trim() }) {
        stopWith("--gene_sets: not a GMT file | ${given.name}: expected name, description and genes, separated by tabs")
    }
    if (params.fixed_sets) {
        listed('fixed_sets', sets.collect { fields -> fields[0].trim() })
    }
}
