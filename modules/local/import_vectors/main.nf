process VECTORS_IMPORT {
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
    """
    # code ${code}
    vcb_import_vectors.py \\
        --vectors ${vectors} \\
        --perturbations ${perturbations} \\
        --strategies ${meta.strategies.join(' ')} \\
        ${args} \\
        --out-dir encodings
    """

    stub:
    """
    mkdir encodings
    touch ${expected.collect { name -> "encodings/${name}.h5ad" }.join(' ')}
    """
}
