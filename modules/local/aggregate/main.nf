process AGGREGATE {
    label 'process_low'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    path plan
    path statuses, stageAs: 'statuses/*'
    path scores, stageAs: 'scores/*'
    path validation, stageAs: 'validation/*'
    path genes, stageAs: 'genes/*'
    path perturbations, stageAs: 'perturbations/*'
    path folds, stageAs: 'folds/*'
    path encodings, stageAs: 'encodings/*'
    val failures
    path assets, stageAs: 'assets/*'
    val code

    output:
    path 'tables/*', emit: tables

    script:
    def args = task.ext.args ?: ''
    """
    # code ${code}
    shopt -s nullglob
    cat > failures.json <<'END_OF_FAILURES'
    ${failures}
    END_OF_FAILURES
    vcb_aggregate.py \\
        --plan ${plan} \\
        --statuses statuses/* \\
        --scores scores/* \\
        --validation-scores validation/* \\
        --genes genes/* \\
        --perturbations perturbations/* \\
        --folds folds/* \\
        --encodings encodings/* \\
        --failures failures.json \\
        --assets assets \\
        ${args} \\
        --out-dir tables
    """

    stub:
    """
    mkdir tables
    cp ${plan} tables/plan.tsv
    touch tables/{cost,leaderboard,contrasts,selection,ranks,agreement,factors,families,ceilings,diagnostics,strata}.tsv tables/{scores,validation,genes}.parquet
    """
}
