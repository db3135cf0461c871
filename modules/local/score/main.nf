process SCORE {
    tag "${meta.id}"
    label 'process_low'
    label 'may_fail'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    tuple val(meta), path(truth), path(de), path(validation), path(predictions)
    path assets, stageAs: 'assets/*'
    val code

    output:
    tuple val(meta), path("${meta.id}.scores.parquet"), emit: scores
    path "${meta.id}.validation.scores.parquet", optional: true, emit: validation
    path "${meta.id}.genes.parquet", optional: true, emit: genes
    path '*.score.status.json', optional: true, emit: status
    tuple val("${task.process}"), eval('vcb_versions.py anndata numpy pyarrow scipy'), topic: versions

    script:
    def args = task.ext.args ?: ''
    def choosing = validation ? "--validation-truth ${validation[0]} --validation-de ${validation[1]} --validation-out ${meta.id}.validation.scores.parquet" : ''
    """
    # code ${code}
    vcb_score.py \\
        --truth ${truth} \\
        --de ${de} \\
        --predictions ${predictions} \\
        --assets assets \\
        ${choosing} \\
        ${args} \\
        --genes-out ${meta.id}.genes.parquet \\
        --out ${meta.id}.scores.parquet
    """

    stub:
    """
    touch ${meta.id}.scores.parquet ${meta.id}.genes.parquet ${meta.id}.validation.scores.parquet
    """
}
