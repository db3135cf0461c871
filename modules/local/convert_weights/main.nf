process CONVERT_WEIGHTS {
    tag "${meta.id}"
    label 'process_plm'
    label 'may_fail'
    memory { 1.GB * meta.memory_gb * task.attempt }
    conda "${moduleDir}/../prott5/environment.yml"
    container 'ghcr.io/variantcellbench/prott5:0.1.0'
    storeDir { meta.store }

    input:
    tuple val(meta), val(settings), val(code), path(official, stageAs: 'official/*')
    path assets, stageAs: 'assets/*'

    output:
    tuple val(meta), path("${meta.converted}"), emit: weights

    script:
    def args = task.ext.args ?: ''
    """
    # code ${code}
    vcb_convert_weights.py \\
        --encoder ${meta.id} \\
        --weights ${official} \\
        --settings '${settings}' \\
        --assets assets \\
        ${args} \\
        --out-dir ${meta.converted}
    """

    stub:
    """
    mkdir ${meta.converted}
    echo '{}' > ${meta.converted}/conversion.json
    """
}
