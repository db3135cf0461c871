process REPORT {
    label 'process_low'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    path tables
    path quality, stageAs: 'quality/*'
    path leakage, stageAs: 'leakage/*'
    path perturbations, stageAs: 'perturbations/*'
    path encoders, stageAs: 'encoders/*'
    path explored, stageAs: 'explored/*'
    val run
    val versions
    path assets, stageAs: 'assets/*'
    val code

    output:
    path 'content', emit: content
    path 'figures/*', emit: figures, optional: true

    script:
    def args = task.ext.args ?: ''
    """
    # code ${code}
    shopt -s nullglob
    cat > run.json <<'END_OF_RUN'
    ${run}
    END_OF_RUN
    printf '%b' '${versions}' > versions.tsv
    vcb_report.py \\
        --tables ${tables} \\
        --quality quality/* \\
        --leakage leakage/* \\
        --perturbations perturbations/* \\
        --encoders encoders/* \\
        --explored explored/* \\
        --run run.json \\
        --versions versions.tsv \\
        --assets assets \\
        ${args} \\
        --figures figures \\
        --out-dir content
    """

    stub:
    """
    mkdir content figures
    touch content/stub_mqc.html figures/stub.{svg,tsv}
    """
}
