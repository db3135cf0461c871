//
// PREDICT: fitted models -> predictions of the held-out perturbations
//

include { BASELINES_PREDICT } from '../../../modules/local/baselines/predict/main'
include { SCLAMBDA_PREDICT  } from '../../../modules/local/sclambda/predict/main'
include { modelCode         } from '../utils_variantcellbench/tasks'
include { ofProcess         } from '../utils_variantcellbench/tasks'

workflow PREDICT {
    take:
    ch_tasks // channel: [ val(meta), val([unit, ...]), val(settings), path(h5ad), path(perturbations), path(folds), path([encoding, ...]), path([model, ...]) ]

    main:
    ch_predicted = channel.empty()
    ch_predicted = ch_predicted.mix(BASELINES_PREDICT(ofProcess(ch_tasks, 'BASELINES'), modelCode('vcb_predict.py', 'BASELINES')).predicted)
    ch_predicted = ch_predicted.mix(SCLAMBDA_PREDICT(ofProcess(ch_tasks, 'SCLAMBDA'), modelCode('vcb_predict.py', 'SCLAMBDA')).predicted)

    emit:
    predicted = ch_predicted // channel: [ val(meta), path([predictions, ...]), path([status, ...]) ]
}
