//
// EXPLORE: optional analyses on the finished tables; nothing runs unless a parameter asks for it
//

include { EXPLORE    } from '../../../modules/local/explore/main'
include { codeDigest } from '../utils_variantcellbench/code'

workflow EXPLORE_RESULTS {
    take:
    ch_tables        // channel: path(tables)
    ch_perturbations // channel: path(perturbations)
    ch_substitutions // channel: path(substitutions), none without --saturation
    ch_encodings     // channel: path(dataset.encoder.strategy.h5ad), path(dataset.encoder.strategy.atlas.h5ad)

    main:
    EXPLORE(
        ch_tables.filter { params.known_function || params.learning_curve || params.saturation },
        ch_perturbations.collect(sort: { table -> table.name }),
        ch_substitutions.collect(sort: { table -> table.name }).ifEmpty([]),
        channel.topic('atlas').flatten().collect(sort: { table -> table.name }).ifEmpty([]),
        ch_encodings.filter { encoding -> encoding.name.tokenize('.')[1] == 'esm2_llr' && encoding.name.tokenize('.')[2] in ['alt', 'diff'] }.collect(sort: { encoding -> encoding.name }).ifEmpty([]),
        channel.fromList(['models', 'encoders', 'metrics']).map { name -> file("${projectDir}/assets/${name}.yml") }.collect(),
        codeDigest(['vcb_explore.py']),
    )

    emit:
    tables = EXPLORE.out.tables.flatten() // channel: path(table); none when no parameter asks for any
}
