process SPLIT {
    tag "${meta.id}"
    label 'process_single'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    tuple val(meta), val(splits), path(perturbations)
    val code

    output:
    tuple val(meta), path("${meta.id}.*.folds.tsv"), emit: folds
    tuple val(meta), path("${meta.id}.leakage.tsv"), emit: leakage
    tuple val("${task.process}"), eval('vcb_versions.py numpy'), topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    # code ${code}
    vcb_split.py --dataset ${meta.id} --perturbations ${perturbations} --splits ${splits.join(' ')} ${args} --out-dir .
    """

    stub:
    """
    touch ${splits.collect { name -> "${meta.id}.${name}.folds.tsv" }.join(' ')} ${meta.id}.leakage.tsv
    """
}
