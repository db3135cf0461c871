process SUBSTITUTIONS {
    tag "${meta.id}"
    label 'process_single'
    label 'may_fail'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    tuple val(meta), path(perturbations), path(proteins), path(annotations, stageAs: 'annotations/*')
    val code

    output:
    path "${meta.id}.substitutions.tsv", emit: substitutions
    tuple val("${task.process}"), eval('vcb_versions.py'), topic: versions

    script:
    def args = task.ext.args ?: ''
    def known = annotations ? "--annotations ${annotations}" : ''
    """
    # code ${code}
    vcb_substitutions.py --dataset ${meta.id} --perturbations ${perturbations} --proteins ${proteins} ${known} ${args} --out-dir .
    """

    stub:
    """
    touch ${meta.id}.substitutions.tsv
    """
}
