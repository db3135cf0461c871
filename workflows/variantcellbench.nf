//
// prepare -> encode -> train -> predict -> evaluate -> report
//

include { ENCODE           } from '../subworkflows/local/encode/main'
include { EVALUATE         } from '../subworkflows/local/evaluate/main'
include { EXPLORE_RESULTS  } from '../subworkflows/local/explore/main'
include { IMPORT_EXTERNAL  } from '../subworkflows/local/predict/import_external'
include { PLAN             } from '../modules/local/plan/main'
include { PREDICT          } from '../subworkflows/local/predict/main'
include { PREPARE_DATASETS } from '../subworkflows/local/prepare/main'
include { TRAIN            } from '../subworkflows/local/train/main'
include { WRITE_REPORT     } from '../subworkflows/local/report/main'
include { annotationTables } from '../subworkflows/local/prepare/main'
include { chosenEncoders   } from '../subworkflows/local/utils_variantcellbench/parameters'
include { codeDigest       } from '../subworkflows/local/utils_variantcellbench/code'
include { listed           } from '../subworkflows/local/utils_variantcellbench/parameters'
include { sortedFiles      } from '../subworkflows/local/utils_variantcellbench/tasks'
include { taskSettings     } from '../subworkflows/local/utils_variantcellbench/tasks'
include { trainedUnits     } from '../subworkflows/local/utils_variantcellbench/tasks'

workflow VARIANTCELLBENCH {
    take:
    ch_samplesheet // channel: path(samplesheet.csv)

    main:
    PLAN(
        ch_samplesheet,
        channel.fromList(['models.yml', 'encoders.yml', 'schema_input.json']).map { name -> file("${projectDir}/assets/${name}") }.collect(),
        params.model_settings ? file(params.model_settings) : [],
        // a misspelled column is said now, not after the training
        ch_samplesheet.map { samplesheet -> params.known_function && !workflow.stubRun ? annotationTables(samplesheet) : [] },
        codeDigest(['vcb_plan.py']),
    )
    ch_units = PLAN.out.plan.splitCsv(header: true, sep: '\t') // channel: map, one row of plan.tsv

    PREPARE_DATASETS(ch_samplesheet, PLAN.out.datasets.splitCsv(header: true, sep: '\t'), ch_units)

    // channel: [ val(meta), path(h5ad), path(perturbations), path(folds) ], meta: id = dataset.split
    ch_folds = PREPARE_DATASETS.out.folds
        .combine(PREPARE_DATASETS.out.datasets, by: 0)
        .map { meta, folds, h5ad, perturbations ->
            def split = folds.name.tokenize('.')[1]
            [[id: "${meta.id}.${split}".toString(), dataset: meta.id, split: split], h5ad, perturbations, folds]
        }

    ENCODE(PREPARE_DATASETS.out.perturbations, PREPARE_DATASETS.out.proteins, PREPARE_DATASETS.out.substitutions, ch_units, PLAN.out.encoders.splitCsv(header: true, sep: '\t'), chosenEncoders(), listed('strategies', ['alt', 'diff', 'ref']))

    // a unit waits for the vectors it needs; a unit without encoder waits for none
    ch_encodings = ENCODE.out.encodings
        .map { encoding -> [encoding.baseName, encoding] }
        .mix(PREPARE_DATASETS.out.datasets.map { meta, _h5ad, _perturbations -> ["${meta.id}.none.none".toString(), []] })
    ch_sizes = ch_units.map { unit -> [unit.task, unit.unit] }.groupTuple().map { task, units -> [task, units.size()] }
    ch_tasks = ch_units
        .map { unit -> ["${unit.dataset}.${unit.encoder}.${unit.strategy}".toString(), unit] }
        .combine(ch_encodings, by: 0)
        .map { _key, unit, encoding -> [unit.task, unit, encoding] }
        .combine(ch_sizes, by: 0)
        .map { task, unit, encoding, size -> [groupKey(task, size), unit, encoding] }
        .groupTuple(remainder: true)
        .map { task, units, encodings ->
            def first = units.first()
            def meta = [id: task.toString(), dataset: first.dataset, split: first.split, fold: first.fold, process: first.process]
            ["${first.dataset}.${first.split}".toString(), meta, units.collect { unit -> unit.unit }.sort(), taskSettings(units), sortedFiles(encodings.flatten())]
        }
        .combine(ch_folds.map { meta, h5ad, perturbations, folds -> [meta.id, h5ad, perturbations, folds] }, by: 0)
        .map { _split, meta, units, settings, encodings, h5ad, perturbations, folds -> [meta, units, settings, h5ad, perturbations, folds, encodings] }

    // wrong weights stop the run before anything is trained, so training waits until every encoder has ended
    ch_ready = ch_tasks.combine(ENCODE.out.done).map { task -> task[0..6] }
    TRAIN(ch_ready)

    ch_fitted = ch_ready
        .map { task -> [task[0].id, task] }
        .join(TRAIN.out.trained.map { meta, models, _status -> [meta.id, sortedFiles(models)] }, failOnDuplicate: true)
        .map { _id, task, models -> [task[0], trainedUnits(task[1], models)] + task[2..6] + [models] }

    // units that also predict all substitutions, by task: [ val([task: [unit, ...]]), path([encoding, ...]) ], once
    ch_atlas = ch_units
        .filter { unit -> unit.atlas }
        .map { unit -> [unit.task, unit.unit] }
        .toList()
        .map { rows -> [rows.groupBy { row -> row[0] }] }
        .combine(ENCODE.out.atlas.toList().map { files -> [files] })
    ch_asked = ch_fitted.combine(ch_atlas).map { task ->
        def own = (task[8][task[0].id] ?: []).collect { row -> row[1] }.findAll { unit -> unit in task[1] }.sort()
        def names = own.collect { unit -> unit.tokenize('.') }.collect { parts -> "${parts[0]}.${parts[4]}.${parts[5]}.atlas.h5ad".toString() }
        [task[0] + [atlas: own]] + task[1..5] + [sortedFiles(task[6] + task[9].findAll { encoding -> encoding.name in names }), task[7]]
    }
    PREDICT(ch_asked)
    IMPORT_EXTERNAL(ch_tasks)

    EVALUATE(ch_folds, PREDICT.out.predicted.mix(IMPORT_EXTERNAL.out.predicted), TRAIN.out.trained, PLAN.out.plan, ch_units, ENCODE.out.encodings)

    EXPLORE_RESULTS(EVALUATE.out.tables, PREPARE_DATASETS.out.perturbations, PREPARE_DATASETS.out.substitutions, ENCODE.out.encodings.mix(ENCODE.out.atlas))

    WRITE_REPORT(EVALUATE.out.tables, PREPARE_DATASETS.out.quality, PREPARE_DATASETS.out.leakage, PREPARE_DATASETS.out.perturbations, ENCODE.out.encodings, EXPLORE_RESULTS.out.tables)

    emit:
    tables = EVALUATE.out.tables // channel: path(tables)
    report = WRITE_REPORT.out.report // channel: path(multiqc_report.html)
}
