process PLAN {
    tag "${samplesheet.name}"
    label 'process_single'
    conda "${moduleDir}/../prepare/environment.yml"
    container 'ghcr.io/variantcellbench/light:0.1.0'

    input:
    path samplesheet, stageAs: 'samplesheet/*'
    path assets, stageAs: 'assets/*'
    path model_settings
    path annotations, stageAs: 'annotations/?/*'
    val code

    output:
    path 'plan.tsv', emit: plan
    path 'datasets.tsv', emit: datasets
    path 'encoders.tsv', emit: encoders
    tuple val("${task.process}"), eval('vcb_versions.py jsonschema pyyaml'), topic: versions

    script:
    def vectors = (params.vectors ?: '').toString().tokenize(',').collect { item -> item.tokenize('/').last().trim() }.join(',')
    def predictions = (params.predictions ?: '').toString().tokenize(',').collect { item -> item.tokenize('/').last().trim() }.join(',')
    def tables = annotations ? "--annotations ${annotations}" : ''
    def settings = model_settings ? "--model-settings ${model_settings}" : ''
    """
    # code ${code}
    vcb_plan.py \\
        --samplesheet ${samplesheet} \\
        --assets assets \\
        --models '${params.models}' \\
        --encoders '${params.encoders}' \\
        --vectors '${vectors}' \\
        --predictions '${predictions}' \\
        --strategies '${params.strategies}' \\
        --encoding-scaling '${params.encoding_scaling}' \\
        --splits '${params.splits}' \\
        --folds ${params.folds} \\
        --seeds '${params.seeds}' \\
        --saturation='${params.saturation ? params.saturation_models : ''}' \\
        --learning-curve='${params.learning_curve}' \\
        --units-per-task ${params.units_per_task} \\
        --known-function='${params.known_function}' \\
        ${tables} \\
        ${settings}
    """
}
