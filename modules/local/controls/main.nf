process CONTROLS_ENCODE {
    tag "${meta.id}"
    label 'process_single'
    label 'may_fail'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    tuple val(meta), path(perturbations), path(proteins)
    val settings
    path assets, stageAs: 'assets/*'
    path gene_sets, stageAs: 'gene_sets/*'
    val code

    output:
    tuple val(meta), path('*.vectors.h5ad'), emit: vectors

    script:
    def args = task.ext.args ?: ''
    def sets = gene_sets ? "--gene-sets ${gene_sets}" : ''
    def chosen = meta.encoders.findAll { name -> name in settings }.collect { name -> "\"${name}\": ${settings[name]}" }.join(', ')
    """
    # code ${code}
    vcb_encode.py \\
        --encoders ${meta.encoders.join(' ')} \\
        --perturbations ${perturbations} \\
        --proteins ${proteins} \\
        --settings '{${chosen}}' \\
        --assets assets \\
        ${sets} \\
        ${args} \\
        --out-dir .
    """

    stub:
    """
    touch ${meta.encoders.collect { name -> "${name}.vectors.h5ad" }.join(' ')}
    """
}
