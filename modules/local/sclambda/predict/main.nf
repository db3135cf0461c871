process SCLAMBDA_PREDICT {
    tag "${meta.id}"
    label 'process_medium'
    label 'process_gpu'
    label 'may_fail'
    conda "${moduleDir}/../environment.yml"
    container 'ghcr.io/variantcellbench/sclambda:0.1.0'

    input:
    tuple val(meta), val(units), val(settings), path(dataset), path(perturbations), path(folds), path(encodings), path(models)
    val code

    output:
    tuple val(meta), path('*.{predictions,validation}.h5ad'), path('*.predict.status.json'), emit: predicted
    path '*.atlas.tsv', optional: true, topic: atlas
    tuple val("${task.process}"), eval('vcb_versions.py anndata numpy safetensors scipy torch'), topic: versions

    script:
    def args = task.ext.args ?: ''
    def atlas = meta.atlas ? "--atlas ${meta.atlas.join(' ')}" : ''
    """
    vcb_predict.py \\
        --units ${units.join(' ')} \\
        --settings '${settings}' \\
        --dataset ${dataset} \\
        --perturbations ${perturbations} \\
        --folds ${folds} \\
        --encodings ${encodings} \\
        --models ${models} \\
        --code ${code} \\
        --threads ${task.cpus} \\
        ${atlas} \\
        ${args} \\
        --out-dir .
    """

    stub:
    """
    touch ${units.collect { unit -> "${unit}.predictions.h5ad ${unit}.validation.h5ad" }.join(' ')}
    touch ${units.collect { unit -> "${unit}.predict.status.json" }.join(' ')}
    touch ${meta.atlas.collect { unit -> "${unit}.atlas.tsv" }.join(' ')} .atlas
    """
}
