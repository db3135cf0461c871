process DERIVE {
    tag "${meta.id}"
    label 'process_single'
    label 'may_fail'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    tuple val(meta), val(expected), path(vectors), path(perturbations)
    val code

    output:
    tuple val(meta), path('encodings/*.h5ad'), emit: encodings
    tuple val("${task.process}"), eval('vcb_versions.py anndata numpy'), topic: versions

    script:
    def args = task.ext.args ?: ''
    def shuffled = meta.shuffled_base ? "--shuffled-base ${meta.shuffled_base}" : ''
    """
    # code ${code}
    vcb_derive.py \\
        --vectors ${vectors} \\
        --perturbations ${perturbations} \\
        --strategies ${meta.strategies.join(' ')} \\
        ${shuffled} \\
        ${args} \\
        --out-dir encodings
    """

    stub:
    """
    mkdir encodings
    touch ${expected.collect { name -> "encodings/${name}.h5ad" }.join(' ')}
    """
}
