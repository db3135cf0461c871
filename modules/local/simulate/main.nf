process SIMULATE {
    tag "${meta.id}"
    label 'process_low'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    val meta
    path assets, stageAs: 'assets/simulate/*'
    val code

    output:
    path 'samplesheet.csv', emit: samplesheet
    path "${meta.id}.*", emit: files
    tuple val("${task.process}"), eval('vcb_versions.py anndata numpy scipy'), topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    # code ${code}
    vcb_simulate.py --dataset ${meta.id} --assets assets --out-dir . ${args}
    """

    stub:
    """
    touch ${meta.id}.counts.h5ad ${meta.id}.fasta ${meta.id}.annotations.tsv
    printf '%s\\n' \\
        'dataset,h5ad,proteins,perturbation_type,annotations' \\
        '${meta.id},${meta.id}.counts.h5ad,${meta.id}.fasta,variant,${meta.id}.annotations.tsv' > samplesheet.csv
    """
}
