process ENCODER_QC {
    label 'process_low'
    label 'optional'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    path encodings, stageAs: 'encodings/*'
    path perturbations, stageAs: 'perturbations/*'
    val code

    output:
    path 'qc/encoder_*.tsv', emit: tables
    tuple val("${task.process}"), eval('vcb_versions.py anndata numpy'), topic: versions

    script:
    def args = task.ext.args ?: ''
    """
    # code ${code}
    vcb_encoder_qc.py \\
        --encodings encodings/* \\
        --perturbations perturbations/* \\
        ${args} \\
        --out-dir qc
    """

    stub:
    """
    mkdir qc
    touch qc/encoder_quality.tsv qc/encoder_similarity.tsv qc/encoder_map.tsv qc/encoder_provenance.tsv
    """
}
