//
// Predictions made elsewhere (--predictions) -> predictions of the units planned for them
//

include { PREDICTIONS_IMPORT  } from '../../../modules/local/import_predictions/main'
include { codeDigest          } from '../utils_variantcellbench/code'
include { externalPredictions } from '../utils_variantcellbench/external_predictions'
include { ofProcess           } from '../utils_variantcellbench/tasks'

workflow IMPORT_EXTERNAL {
    take:
    ch_tasks // channel: [ val(meta), val([unit, ...]), val(settings), path(h5ad), path(perturbations), path(folds), path([encoding, ...]) ]

    main:
    def made = externalPredictions()
    // channel: [ val(meta), val([unit, ...]), path(predictions), path(h5ad), path(perturbations), path(folds) ]
    ch_external = ofProcess(ch_tasks, 'PREDICTIONS_IMPORT').map { meta, units, _settings, h5ad, perturbations, folds, _encodings ->
        [meta, units, made[units.first().tokenize('.')[3]], h5ad, perturbations, folds]
    }
    PREDICTIONS_IMPORT(ch_external, codeDigest(['vcb_import_predictions.py']))

    emit:
    predicted = PREDICTIONS_IMPORT.out.predicted // channel: [ val(meta), path([predictions, ...]), path([status, ...]) ]
}
