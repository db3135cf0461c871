process ESM2_ENCODE {
    tag "${meta.id}"
    label 'process_medium'
    label 'process_gpu'
    label 'may_fail'
    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/variantcellbench/esm2:0.1.0'

    input:
    tuple val(meta), path(perturbations), path(proteins), path(weights, stageAs: 'weights/*')
    val settings
    path assets, stageAs: 'assets/*'
    val code

    output:
    tuple val(meta), path('*.vectors.h5ad'), emit: vectors
    tuple val("${task.process}"), eval('vcb_versions.py anndata numpy safetensors torch transformers'), topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    # code ${code}
    vcb_encode.py \\
        --encoders ${meta.encoders.join(' ')} \\
        --weights weights \\
        --perturbations ${perturbations} \\
        --proteins ${proteins} \\
        --threads ${task.cpus} \\
        --settings '${settings}' \\
        --assets assets \\
        ${args} \\
        --out-dir .
    """

    stub:
    """
    touch ${meta.encoders.collect { name -> "${name}.vectors.h5ad" }.join(' ')}
    """
}
