process REQUESTS {
    tag 'all'
    label 'process_single'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    tuple path(perturbations), path(proteins)
    val code

    output:
    path 'requests.tsv', emit: requests
    tuple val("${task.process}"), eval('vcb_versions.py'), topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    # code ${code}
    vcb_requests.py \\
        --perturbations ${perturbations} \\
        --proteins ${proteins} \\
        ${args} \\
        --out-dir .
    """

    stub:
    """
    printf 'key\\tkind\\nstub\\tvariant\\n' > requests.tsv
    """
}
