//
// The user's own vectors (--vectors) -> encodings of every dataset
//

include { VECTORS_IMPORT } from '../../../modules/local/import_vectors/main'
include { codeDigest     } from '../utils_variantcellbench/code'
include { ownVectors     } from '../utils_variantcellbench/own_vectors'

workflow OWN_VECTORS {
    take:
    ch_tables  // channel: [ path([perturbations, ...]) ]
    ch_planned // channel: [ val([[dataset, encoder, strategy], ...]) ]
    strategies // value: list of strategy names

    main:
    // channel: [ val(meta), val([dataset.encoder.strategy, ...]), path(vectors), path([perturbations, ...]) ]
    ch_own = channel.fromList(ownVectors().collect { name, vectors -> [[id: name, strategies: strategies], vectors] })
        .combine(ch_planned)
        .map { meta, vectors, planned ->
            [meta, planned.findAll { item -> item[1] == meta.id }.collect { item -> item.join('.') }, vectors]
        }
        .filter { _meta, expected, _vectors -> expected }
        .combine(ch_tables)
    VECTORS_IMPORT(ch_own, codeDigest(['vcb_import_vectors.py']))

    emit:
    encodings = VECTORS_IMPORT.out.encodings // channel: [ val(meta), path([dataset.encoder.strategy.h5ad, ...]) ]
}
