// User text as one shell word
def quoted(text) {
    return "'${text.toString().replace("'", "'\\\\''")}'"
}

process PREPARE {
    tag "${meta.id}"
    label 'process_medium'
    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    tuple val(meta), val(facts), path(h5ad, stageAs: 'input/*'), path(proteins, stageAs: 'input/*'), path(annotations, stageAs: 'input/*')
    val code

    output:
    tuple val(meta), path("${meta.id}.h5ad"), emit: dataset
    tuple val(meta), path("${meta.id}.perturbations.tsv"), emit: perturbations
    tuple val(meta), path("${meta.id}.proteins.fasta"), emit: proteins
    tuple val(meta), path("${meta.id}.quality.tsv"), emit: quality
    tuple val("${task.process}"), eval('vcb_versions.py anndata mavehgvs numpy pandas scanpy scipy'), topic: versions

    script:
    def args = task.ext.args ?: ''
    def options = facts.collect { name, value -> "--${name.replace('_', '-')} ${quoted(value)}" }.join(' ')
    def files = (proteins ? "--proteins ${proteins} " : '') + (annotations ? "--annotations ${annotations}" : '')
    """
    # code ${code}
    vcb_prepare.py --dataset ${meta.id} --h5ad ${h5ad} ${files} ${options} ${args} --out-dir .
    """

    stub:
    """
    touch ${meta.id}.h5ad ${meta.id}.perturbations.tsv ${meta.id}.proteins.fasta ${meta.id}.quality.tsv
    """
}
