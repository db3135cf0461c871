process MULTIQC {
    label 'process_single'
    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/variantcellbench/multiqc:1.35'

    input:
    path multiqc_files, stageAs: '?/*'
    path multiqc_config
    path extra_multiqc_config

    output:
    path '*multiqc_report.html', emit: report
    path '*_data', optional: true, emit: data
    path '*_plots', optional: true, emit: plots

    script:
    def args = task.ext.args ?: ''
    def extra_config = extra_multiqc_config ? "--config ${extra_multiqc_config}" : ''
    """
    multiqc --force ${args} --config ${multiqc_config} ${extra_config} .
    """

    stub:
    """
    mkdir multiqc_report_data
    touch multiqc_report.html
    """
}
