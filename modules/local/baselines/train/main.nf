process BASELINES_TRAIN {
    tag "${meta.id}"
    label 'process_low'
    label 'may_fail'
    conda "${moduleDir}/../../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    tuple val(meta), val(units), val(settings), path(dataset), path(perturbations), path(folds), path(encodings)
    val code

    output:
    tuple val(meta), path('*.model'), path('*.train.status.json'), emit: trained
    tuple val("${task.process}"), eval('vcb_versions.py anndata numpy scipy'), topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    vcb_train.py \\
        --units ${units.join(' ')} \\
        --settings '${settings}' \\
        --dataset ${dataset} \\
        --perturbations ${perturbations} \\
        --folds ${folds} \\
        --encodings ${encodings} \\
        --code ${code} \\
        --threads ${task.cpus} \\
        ${args} \\
        --out-dir .
    """

    stub:
    """
    mkdir ${units.collect { unit -> "${unit}.model" }.join(' ')}
    touch ${units.collect { unit -> "${unit}.train.status.json" }.join(' ')}
    """
}
