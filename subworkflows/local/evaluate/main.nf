//
// EVALUATE: predictions of all folds -> scores -> tables; every planned unit is accounted for
//

include { AGGREGATE        } from '../../../modules/local/aggregate/main'
include { SCORE            } from '../../../modules/local/score/main'
include { TRUTH            } from '../../../modules/local/truth/main'
include { codeDigest       } from '../utils_variantcellbench/code'
include { failureReport    } from '../utils_variantcellbench/failures'
include { sortedFiles      } from '../utils_variantcellbench/tasks'

// Perturbations of a table that have cells
def perturbationNames(table) {
    def lines = table.readLines().collect { line -> line.split('\t', -1) as List }
    if (!lines) {
        return [] // a stub run
    }
    def (name, cells) = [lines[0].indexOf('perturbation'), lines[0].indexOf('n_cells')]
    return lines.drop(1).findAll { fields -> fields[cells] != '0' }.collect { fields -> fields[name] }
}

// Predictions by unit, [ [test predictions, validation predictions], ... ], so that a group has as many items as units
def unitFiles(predictions) {
    return sortedFiles(predictions).groupBy { item -> item.name.replaceFirst(/\.(predictions|validation)\.h5ad$/, '') }.values() as List
}

workflow EVALUATE {
    take:
    ch_folds     // channel: [ val(meta), path(h5ad), path(perturbations), path(folds) ], meta: id = dataset.split
    ch_predicted // channel: [ val(meta), path([predictions, ...]), path([status, ...]) ]
    ch_trained   // channel: [ val(meta), path([model, ...]), path([status, ...]) ]
    ch_plan      // channel: path(plan.tsv)
    ch_units     // channel: map, one row of plan.tsv
    ch_encodings // channel: path(dataset.encoder.strategy.h5ad)

    main:
    def metrics = file("${projectDir}/assets/metrics.yml")
    TRUTH(ch_folds, metrics, params.gene_sets ? file(params.gene_sets, checkIfExists: true) : [], codeDigest(['vcb_truth.py']))

    // all folds of a model (of all baselines) are scored together: [ val(dataset.split.process), val(number of planned units) ]
    ch_sizes = ch_units
        .map { unit -> ["${unit.dataset}.${unit.split}.${unit.process.toLowerCase()}".toString(), unit.unit] }
        .groupTuple()
        .map { group, units -> [group, units.size()] }
    ch_scorable = ch_predicted
        .flatMap { meta, predictions, _status ->
            unitFiles(predictions).collect { files -> ["${meta.dataset}.${meta.split}.${meta.process.toLowerCase()}".toString(), files] }
        }
        .combine(ch_sizes, by: 0)
        .map { group, predictions, size -> [groupKey(group, size), predictions] }
        .groupTuple(remainder: true)
        .map { group, predictions ->
            def parts = group.toString().tokenize('.')
            ["${parts[0]}.${parts[1]}".toString(), [id: group.toString()], sortedFiles(predictions.flatten())]
        }
        .combine(TRUTH.out.truth.join(TRUTH.out.validation).map { meta, truth, de, of_validation, their_de -> [meta.id, truth, de, [of_validation, their_de]] }, by: 0)
        .map { _split, meta, predictions, truth, de, validation -> [meta, truth, de, validation, predictions] }

    // ceiling: the same perturbations measured in another dataset of the run
    ch_measured = TRUTH.out.truth
        .map { meta, truth, de -> [meta.id, meta.split, truth, de] }
        .join(ch_folds.map { meta, _h5ad, perturbations, _folds -> [meta.id, perturbationNames(perturbations)] })
        .map { id, split, truth, de, names -> [split, id, truth, de, names] }
    ch_elsewhere = ch_measured
        .combine(ch_measured, by: 0)
        .filter { _split, id, _truth, _de, names, other, _theirs, _their_de, others -> id != other && !names.disjoint(others) }
        .map { _split, id, truth, de, _names, _other, theirs, _their_de, _others -> [id, truth, de, theirs] }
        .groupTuple(by: [0, 1, 2])
        .map { id, truth, de, theirs -> [[id: "${id}.cross_line".toString()], truth, de, [], sortedFiles(theirs)] }
    SCORE(ch_scorable.mix(ch_elsewhere), metrics, codeDigest(['vcb_score.py']))

    ch_statuses = ch_trained
        .mix(ch_predicted)
        .flatMap { _meta, _files, status -> sortedFiles(status) }
        .mix(SCORE.out.status.flatten())
        .collect(sort: { status -> status.name })
        .ifEmpty([])
    ch_scores = SCORE.out.scores.map { _meta, scores -> scores }.mix(TRUTH.out.scores).collect(sort: { scores -> scores.name }).ifEmpty([])

    ch_genes = SCORE.out.genes.mix(TRUTH.out.genes).collect(sort: { genes -> genes.name }).ifEmpty([])
    ch_validation = SCORE.out.validation.mix(TRUTH.out.validation_scores).collect(sort: { scores -> scores.name }).ifEmpty([])

    // read once everything above has ended, so that every failed task is in the trace
    ch_tasks = ch_units.map { unit -> unit.task }.unique().toList()
    ch_ended = ch_predicted.map { meta, _files, _status -> meta.id }.toList()
    ch_failures = ch_tasks
        .map { tasks -> [tasks] }
        .combine(ch_ended.map { ended -> [ended] })
        .combine(ch_scores.map { scores -> [scores] })
        .map { tasks, ended, _scores -> failureReport("${params.outdir}/pipeline_info/execution_trace_${params.trace_report_suffix}.txt", tasks - ended) }

    AGGREGATE(
        ch_plan,
        ch_statuses,
        ch_scores,
        ch_validation,
        ch_genes,
        ch_folds.map { _meta, _h5ad, perturbations, _folds -> perturbations }.unique().collect(sort: { table -> table.name }),
        ch_folds.map { _meta, _h5ad, _perturbations, folds -> folds }.collect(sort: { table -> table.name }),
        ch_encodings.collect(sort: { encoding -> encoding.name }).ifEmpty([]),
        ch_failures,
        channel.fromList(['models', 'encoders', 'metrics']).map { name -> file("${projectDir}/assets/${name}.yml") }.collect(),
        codeDigest(['vcb_aggregate.py']),
    )

    emit:
    tables = AGGREGATE.out.tables.map { files -> files.first().parent } // channel: path(tables)
}
