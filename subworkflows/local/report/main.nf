//
// REPORT: tables -> one page a reader understands in ten seconds
//

include { ENCODER_QC } from '../../../modules/local/encoder_qc/main'
include { MULTIQC    } from '../../../modules/nf-core/multiqc/main'
include { REPORT     } from '../../../modules/local/report/main'
include { codeDigest } from '../utils_variantcellbench/code'

// Facts of this run as one line of JSON
def runFacts() {
    return groovy.json.JsonOutput.toJson([
        pipeline: workflow.manifest.name,
        pipeline_version: workflow.manifest.version,
        description: workflow.manifest.description,
        git_commit: workflow.commitId ?: '',
        nextflow_version: workflow.nextflow.version.toString(),
        run_name: workflow.runName,
        profile: workflow.profile,
        command_line: workflow.commandLine,
        date: workflow.start.toString(),
        params: params.findAll { name, _value -> !(name in ['help', 'version', 'trace_report_suffix']) }.collectEntries { name, value -> [name, value == null ? '' : value.toString()] },
    ])
}

workflow WRITE_REPORT {
    take:
    ch_tables        // channel: path(tables)
    ch_quality       // channel: path(quality)
    ch_leakage       // channel: path(leakage)
    ch_perturbations // channel: path(perturbations)
    ch_encodings     // channel: path(dataset.encoder.strategy.h5ad)
    ch_explored      // channel: path(table), none when no optional analysis was asked for

    main:
    ENCODER_QC(
        ch_encodings.collect(sort: { encoding -> encoding.name }),
        ch_perturbations.collect(sort: { table -> table.name }),
        codeDigest(['vcb_encoder_qc.py']),
    )
    ch_versions = channel.topic('versions')
        .unique()
        .toSortedList { left, right -> left.join(' ') <=> right.join(' ') }
        .map { rows -> "process\\tsoftware\\tversion\\n" + rows.collectMany { process, text -> text.trim().tokenize(' ').collect { item -> "${process.tokenize(':').last()}\\t${item.replace('=', '\\t')}\\n" } }.join('') }

    REPORT(
        ch_tables,
        ch_quality.collect(sort: { table -> table.name }),
        ch_leakage.collect(sort: { table -> table.name }),
        ch_perturbations.collect(sort: { table -> table.name }),
        ENCODER_QC.out.tables.ifEmpty([]),
        ch_explored.collect(sort: { table -> table.name }).ifEmpty([]),
        runFacts(),
        ch_versions,
        channel.fromList(['models.yml', 'encoders.yml', 'metrics.yml', 'methods_description_template.yml', 'report.css']).map { name -> file("${projectDir}/assets/${name}") }.collect(),
        codeDigest(['vcb_report.py']),
    )
    MULTIQC(
        REPORT.out.content,
        file("${projectDir}/assets/multiqc_config.yml"),
        params.multiqc_config ? file(params.multiqc_config) : [],
    )

    emit:
    report = MULTIQC.out.report // channel: path(multiqc_report.html)
}
