process TRUTH {
    tag "${meta.id}"
    label 'process_medium'
    label 'may_fail'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    tuple val(meta), path(dataset), path(perturbations), path(folds)
    path assets, stageAs: 'assets/*'
    path gene_sets, stageAs: 'gene_sets/*'
    val code

    output:
    tuple val(meta), path("${meta.id}.truth.h5ad"), path("${meta.id}.de.parquet"), emit: truth
    tuple val(meta), path("${meta.id}.validation.truth.h5ad"), path("${meta.id}.validation.de.parquet"), emit: validation
    path "${meta.id}.reference.scores.parquet", emit: scores
    path "${meta.id}.validation.reference.scores.parquet", emit: validation_scores
    path "${meta.id}.reference.genes.parquet", emit: genes
    tuple val("${task.process}"), eval('vcb_versions.py anndata illico numpy pyarrow scipy'), topic: versions

    script:
    def args = task.ext.args ?: ''
    def sets = gene_sets ? "--gene-sets ${gene_sets}" : ''
    """
    # code ${code}
    vcb_truth.py \\
        --dataset ${dataset} \\
        --perturbations ${perturbations} \\
        --folds ${folds} \\
        --dataset-id ${meta.dataset} \\
        --split ${meta.split} \\
        --assets assets \\
        ${sets} \\
        ${args} \\
        --out-dir .
    """

    stub:
    """
    touch ${meta.id}.{truth.h5ad,de.parquet,reference.scores.parquet,reference.genes.parquet}
    touch ${meta.id}.validation.{truth.h5ad,de.parquet,reference.scores.parquet}
    """
}
