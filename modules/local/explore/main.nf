process EXPLORE {
    label 'process_low'
    label 'optional'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    path tables
    path perturbations, stageAs: 'perturbations/*'
    path substitutions, stageAs: 'substitutions/*'
    path atlas, stageAs: 'atlas/*'
    path zero_shot, stageAs: 'zero_shot/*'
    path assets, stageAs: 'assets/*'
    val code

    output:
    path 'explored/*.tsv', emit: tables
    tuple val("${task.process}"), eval('vcb_versions.py anndata numpy pyarrow scipy'), topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    # code ${code}
    shopt -s nullglob
    vcb_explore.py \\
        --tables ${tables} \\
        --perturbations perturbations/* \\
        --substitutions substitutions/* \\
        --atlas atlas/* \\
        --zero-shot zero_shot/* \\
        --assets assets \\
        ${args} \\
        --out-dir explored
    """

    stub:
    """
    mkdir explored
    touch explored/known_function.tsv explored/learning_curve.tsv explored/atlas.tsv
    """
}
