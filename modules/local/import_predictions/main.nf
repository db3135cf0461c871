process PREDICTIONS_IMPORT {
    tag "${meta.id}"
    label 'process_low'
    label 'may_fail'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    tuple val(meta), val(units), path(made, stageAs: 'made/*'), path(dataset), path(perturbations), path(folds)
    val code

    output:
    tuple val(meta), path('*.predictions.h5ad'), path('*.predict.status.json'), emit: predicted
    tuple val("${task.process}"), eval('vcb_versions.py anndata numpy'), topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    vcb_import_predictions.py \\
        --predictions ${made} \\
        --units ${units.join(' ')} \\
        --dataset ${dataset} \\
        --perturbations ${perturbations} \\
        --folds ${folds} \\
        --code ${code} \\
        ${args} \\
        --out-dir .
    """

    stub:
    """
    touch ${units.collect { unit -> "${unit}.predictions.h5ad ${unit}.predict.status.json" }.join(' ')}
    """
}
