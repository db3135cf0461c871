//
// TRAIN: every task of the plan whose inputs exist -> fitted models
//

include { BASELINES_TRAIN } from '../../../modules/local/baselines/train/main'
include { SCLAMBDA_TRAIN  } from '../../../modules/local/sclambda/train/main'
include { modelCode       } from '../utils_variantcellbench/tasks'
include { ofProcess       } from '../utils_variantcellbench/tasks'

workflow TRAIN {
    take:
    ch_tasks // channel: [ val(meta), val([unit, ...]), val(settings), path(h5ad), path(perturbations), path(folds), path([encoding, ...]) ]

    main:
    ch_trained = channel.empty()
    ch_trained = ch_trained.mix(BASELINES_TRAIN(ofProcess(ch_tasks, 'BASELINES'), modelCode('vcb_train.py', 'BASELINES')).trained)
    ch_trained = ch_trained.mix(SCLAMBDA_TRAIN(ofProcess(ch_tasks, 'SCLAMBDA'), modelCode('vcb_train.py', 'SCLAMBDA')).trained)

    emit:
    trained = ch_trained // channel: [ val(meta), path([model, ...]), path([status, ...]) ]
}
