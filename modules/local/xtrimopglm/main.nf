process XTRIMOPGLM_ENCODE {
    tag "${meta.id}"
    label 'process_plm'
    label 'process_gpu'
    label 'may_fail'
    memory { 1.GB * meta.memory_gb * task.attempt }
    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/variantcellbench/xtrimopglm:0.1.0'
    storeDir { meta.store }

    input:
    tuple val(meta), val(settings), val(code), path(perturbations), path(proteins), path(weights, stageAs: 'weights/*'), path(known, stageAs: 'known/*'), path(msas, stageAs: 'msas/*')
    path assets, stageAs: 'assets/*'

    output:
    tuple val(meta), path("${meta.id}.${meta.shard}.vectors.h5ad"), path("${meta.id}.${meta.shard}.keys.txt"), emit: vectors

    script:
    def args = task.ext.args ?: ''
    def alignments = msas ? "--msas ${msas}" : ''
    """
    # code ${code}
    vcb_encode.py \\
        --encoders ${meta.id} \\
        --weights ${weights} \\
        --perturbations ${perturbations} \\
        --proteins ${proteins} \\
        --known ${known} \\
        --shard ${meta.shard} \\
        --settings '${settings}' \\
        --threads ${task.cpus} \\
        --assets assets \\
        ${alignments} ${args} \\
        --out-dir .
    """

    stub:
    """
    touch ${meta.id}.${meta.shard}.vectors.h5ad ${meta.id}.${meta.shard}.keys.txt
    """
}
