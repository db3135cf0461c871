process DERIVE {
    tag "${meta.id}"
    label 'process_single'
    label 'may_fail'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    tuple val(meta), val(expected), path(vectors), path(keys), path(perturbations)
    val code

    output:
    tuple val(meta), path('encodings/*.h5ad'), emit: encodings
    path 'encodings/*.{npz,tsv,json}', optional: true, emit: exports
    tuple val("${meta.process}"), eval('cat versions.txt'), topic: versions
    tuple val("${task.process}"), eval('vcb_versions.py anndata numpy'), topic: versions

    script:
    def args = task.ext.args ?: ''
    def tables = [perturbations].flatten().groupBy { table -> table.name.endsWith('.substitutions.tsv') }
    def substitutions = tables[true] ? "--substitutions ${tables[true].join(' ')}" : ''
    def shuffled = meta.shuffled_base ? "--shuffled-base ${meta.shuffled_base}" : ''
    """
    # code ${code}; the SHA-256 of stored vectors is in ${keys ?: 'no list of keys'}
    vcb_derive.py \\
        --vectors ${vectors} \\
        --perturbations ${tables[false].join(' ')} \\
        ${substitutions} \\
        --strategies ${meta.strategies.join(' ')} \\
        ${shuffled} \\
        --versions versions.txt \\
        ${args} \\
        --out-dir encodings
    """

    stub:
    """
    mkdir encodings
    touch versions.txt
    touch ${expected.collect { name -> "encodings/${name}.h5ad" }.join(' ')}
    """
}
