//
// ENCODE: perturbations -> one vector per perturbation, encoder and strategy; each encoder runs once over all datasets,
// a protein language model only on what its store lacks
//

include { ANKH3_ENCODE      } from '../../../modules/local/ankh3/main'
include { CONTROLS_ENCODE   } from '../../../modules/local/controls/main'
include { CONVERT_WEIGHTS   } from '../../../modules/local/convert_weights/main'
include { DERIVE            } from '../../../modules/local/derive/main'
include { ESM2_ENCODE       } from '../../../modules/local/esm2/main'
include { ESMC_ENCODE       } from '../../../modules/local/esmc/main'
include { ESM_MSA_ENCODE    } from '../../../modules/local/esm_msa/main'
include { OWN_VECTORS       } from './own_vectors'
include { PROTT5_ENCODE     } from '../../../modules/local/prott5/main'
include { REQUESTS          } from '../../../modules/local/requests/main'
include { XTRIMOPGLM_ENCODE } from '../../../modules/local/xtrimopglm/main'
include { alignmentHashes   } from './store'
include { catalogue         } from '../utils_variantcellbench/parameters'
include { codeDigest        } from '../utils_variantcellbench/code'
include { convertedName     } from './store'
include { holding           } from './store'
include { networkCode       } from './store'
include { ofProcess         } from '../utils_variantcellbench/tasks'
include { searched          } from './store'
include { shortHash         } from './store'
include { stopWith          } from '../utils_variantcellbench/parameters'
include { storeFolder       } from './store'
include { vectorsName       } from './store'

// Digest of the encoder step and of the encoders' own files
def controlsCode(names) {
    return codeDigest(['vcb_encode.py'] + names.collect { name -> "vcbench/encoders/${name}.py".toString() })
}

// Record of converted weights; stops when a copy into the store was cut off
def recordOf(weights) {
    def record = weights.resolve('conversion.json')
    if (!record.exists()) {
        stopWith("${weights.toUriString()}: converted weights are incomplete | delete this folder; the next run converts again")
    }
    return record.text
}

// What one encoder needs from CONVERT_WEIGHTS: [ meta, settings, code, official folder ]
def conversion(name, settings) {
    def entry = catalogue('encoders').entries[name]
    def code = networkCode('vcb_convert_weights.py', entry)
    def meta = [id: name, converted: convertedName(name, entry, settings, code), store: "${storeFolder()}/weights".toString(), memory_gb: entry.memory_gb]
    return [meta, groovy.json.JsonOutput.toJson(settings), code, file("${params.weights}/${entry.weights.folder}")]
}

// What the store has and lacks of one encoder: [ meta, settings, code, weights, shards ], meta.shard is empty when nothing is missing
def placed(name, settings, weights, wanted) {
    def entry = catalogue('encoders').entries[name]
    def code = networkCode('vcb_encode.py', entry)
    def alignments = entry.inputs == 'msas' && params.msas ? alignmentHashes() : []
    def folder = file("${storeFolder()}/vectors/${vectorsName(name, entry, settings, code, recordOf(weights), alignments)}")
    def (shards, missing) = searched(folder, name, wanted)
    def meta = [id: name, encoders: [name], process: entry.process, shard: missing ? shortHash(missing) : '', store: folder.toUriString(), memory_gb: entry.memory_gb]
    return [meta, groovy.json.JsonOutput.toJson([(name): settings]), code, weights, shards]
}

// Tables an encoder reads: those of the data, and all substitutions when it is to encode them
def tablesFor(name, tables, substitutions, wishes) {
    return name in wishes ? tables + substitutions : tables
}

workflow ENCODE {
    take:
    ch_perturbations // channel: path(perturbations)
    ch_proteins      // channel: path(fasta)
    ch_substitutions // channel: path(substitutions), none without --saturation
    ch_units         // channel: map, one row of plan.tsv
    ch_settings      // channel: map, one row of encoders.tsv
    encoders         // value: list of encoder names of the catalogue
    strategies       // value: list of strategy names

    main:
    def entries = catalogue('encoders').entries
    def networks = encoders.findAll { name -> entries[name].family }
    def plms = encoders.findAll { name -> entries[name]['class'] == 'plm' }
    // the shuffled control deals out the vectors of the first protein language model, else of a control (genes: one-hot)
    def shuffled_base = 'shuffled' in encoders ? (plms ? plms.first() : 'physchem') : null
    def needed = encoders + (shuffled_base ? [shuffled_base, 'onehot'] : [])
    def controls = needed.findAll { name -> entries[name].process == 'CONTROLS_ENCODE' && name != 'shuffled' }.unique().sort()

    // channel: [ path([perturbations, ...]), path([fasta, ...]) ]
    ch_proteome = ch_perturbations
        .collect(sort: { table -> table.name })
        .map { tables -> [tables] }
        .combine(ch_proteins.collect(sort: { fasta -> fasta.name }).map { files -> [files] })

    // channel: [ path([substitutions, ...]), val([encoder that encodes them, ...]) ], once
    def scored = params.known_function && 'esm2_llr' in encoders ? ['esm2_llr'] : []
    ch_atlas = ch_substitutions
        .collect(sort: { table -> table.name })
        .ifEmpty([])
        .map { tables -> [tables] }
        .combine(ch_units.filter { unit -> unit.atlas }.map { unit -> unit.encoder }.unique().toSortedList().map { names -> [names ? (names + scored).unique() : []] })

    def assets = [file("${projectDir}/assets/encoders.yml")]
    ch_json = ch_settings.toList().map { rows -> rows.collectEntries { row -> [row.encoder, row.settings] } }

    CONTROLS_ENCODE(
        channel.of([id: 'controls', encoders: controls, process: 'CONTROLS_ENCODE'])
            .combine(ch_proteome)
            .mix(ch_atlas.combine(ch_proteome).map { substitutions, wishes, tables, files ->
                [[id: 'controls.atlas', encoders: substitutions ? controls.findAll { name -> name in wishes } : [], process: 'CONTROLS_ENCODE'], tables + substitutions, files]
            })
            .filter { meta, _tables, _files -> meta.encoders },
        ch_json.map { settings -> settings.subMap(controls) },
        assets,
        'gene_sets' in controls ? file(params.gene_sets, checkIfExists: true) : [],
        controlsCode(controls),
    )

    // channel: [ val(encoder), val(settings), val([key, ...]) ]; none when no dataset has variants
    REQUESTS(
        ch_proteome.filter { networks }.combine(ch_atlas).map { tables, files, substitutions, wishes -> [wishes.any { name -> name in networks } ? tables + substitutions : tables, files] },
        codeDigest(['vcb_requests.py']),
    )
    ch_requests = REQUESTS.out.requests.map { table -> [table.splitCsv(header: true, sep: '\t').findAll { row -> row.kind == 'variant' }] }
    ch_wanted = ch_requests
        .filter { rows -> rows[0] }
        .combine(ch_json)
        .combine(ch_atlas.map { _tables, wishes -> [wishes] })
        .flatMap { rows, settings, wishes ->
            networks.collect { name -> [name, new groovy.json.JsonSlurper().parseText(settings[name]), rows.findAll { row -> row.atlas != 'true' || name in wishes }.collect { row -> row.key }] }
        }
    CONVERT_WEIGHTS(ch_wanted.map { name, settings, _keys -> conversion(name, settings) }, assets)

    ch_placed = ch_wanted
        .join(CONVERT_WEIGHTS.out.weights.map { meta, weights -> [meta.id, weights] })
        .map { name, settings, keys, weights -> placed(name, settings, weights, keys) }
    ch_new = ch_placed
        .filter { placement -> placement[0].shard }
        .combine(ch_proteome)
        .combine(ch_atlas)
        .map { meta, settings, code, weights, shards, tables, files, substitutions, wishes ->
            [meta, settings, code, tablesFor(meta.id, tables, substitutions, wishes), files, weights, shards.collect { shard -> shard.list }, entries[meta.id].inputs == 'msas' && params.msas ? file(params.msas) : []]
        }
    ch_made = channel.empty()
    ch_made = ch_made.mix(ANKH3_ENCODE(ofProcess(ch_new, 'ANKH3_ENCODE'), assets).vectors)
    ch_made = ch_made.mix(ESM2_ENCODE(ofProcess(ch_new, 'ESM2_ENCODE'), assets).vectors)
    ch_made = ch_made.mix(ESMC_ENCODE(ofProcess(ch_new, 'ESMC_ENCODE'), assets).vectors)
    ch_made = ch_made.mix(ESM_MSA_ENCODE(ofProcess(ch_new, 'ESM_MSA_ENCODE'), assets).vectors)
    ch_made = ch_made.mix(PROTT5_ENCODE(ofProcess(ch_new, 'PROTT5_ENCODE'), assets).vectors)
    ch_made = ch_made.mix(XTRIMOPGLM_ENCODE(ofProcess(ch_new, 'XTRIMOPGLM_ENCODE'), assets).vectors)

    // the shards of an encoder: those that were there, and the one that was made; all lie in the store
    ch_whole = ch_made
        .map { meta, vectors, list -> [meta.id, [[vectors: vectors, list: list]]] }
        .mix(ch_placed.filter { placement -> !placement[0].shard }.map { placement -> [placement[0].id, []] })
        .join(ch_placed.map { placement -> [placement[0].id, placement[0], placement[4]] })
        .map { _name, made, meta, shards ->
            def all = (shards + made).toSorted { shard -> shard.list.name }
            [meta.subMap(['id', 'encoders', 'process']), all.collect { shard -> shard.vectors }, all.collect { shard -> shard.list }]
        }
        .mix(CONTROLS_ENCODE.out.vectors.map { meta, vectors -> [meta, vectors, []] })

    // channel: [ val(meta), val([dataset.encoder.strategy, ...]), path([vectors, ...]), path([keys, ...]), path([perturbations, ...]) ]
    ch_planned = ch_units
        .map { unit -> [unit.dataset, unit.encoder, unit.strategy] }
        .filter { _dataset, encoder, _strategy -> encoder != 'none' }
        .unique()
        .toSortedList { left, right -> left.join('.') <=> right.join('.') }
        .map { planned -> [planned] }
    // of the shards of an encoder those that hold what was measured: asking for an atlas repeats nothing else
    ch_keys = ch_requests.map { rows -> [rows[0].findAll { row -> row.atlas != 'true' }.collect { row -> row.key }] }.ifEmpty([[]])
    ch_vectors = ch_whole
        .filter { meta, _vectors, _lists -> meta.id != 'controls.atlas' }
        .combine(ch_keys)
        .map { meta, vectors, lists, keys ->
            def shards = lists ? holding([vectors, lists].transpose().collect { pair -> [vectors: pair[0], list: pair[1]] }, keys) : []
            [meta, lists ? shards.collect { shard -> shard.vectors } : vectors, shards.collect { shard -> shard.list }]
        }
        .combine(ch_planned)
        .map { meta, vectors, lists, planned ->
            def own = planned.findAll { item -> item[1] in meta.encoders || (item[1] == 'shuffled' && meta.id == 'controls') }
            [meta + [strategies: strategies, shuffled_base: shuffled_base], own.collect { item -> item.join('.') }, vectors, lists]
        }
        .combine(ch_proteome.map { tables, _files -> [tables] })

    // the same of all substitutions, for the encoders that are asked for them
    ch_of_atlas = ch_whole
        .combine(ch_atlas)
        .filter { meta, _vectors, _lists, substitutions, wishes -> substitutions && meta.id != 'controls' && meta.encoders.any { name -> name in wishes } }
        .combine(ch_planned)
        .combine(ch_proteome.map { tables, _files -> [tables] })
        .map { meta, vectors, lists, substitutions, _wishes, planned, tables ->
            def own = planned.findAll { item -> item[1] in meta.encoders }
            def name = meta.id.endsWith('.atlas') ? meta.id : "${meta.id}.atlas".toString()
            [meta + [id: name, strategies: strategies, shuffled_base: null], own.collect { item -> "${item.join('.')}.atlas".toString() }, vectors, lists, tables + substitutions]
        }
    DERIVE(ch_vectors.mix(ch_of_atlas), codeDigest(['vcb_derive.py']))
    ch_derived = DERIVE.out.encodings.flatMap { _meta, files -> files instanceof List ? files : [files] }
    OWN_VECTORS(ch_proteome.map { tables, _files -> [tables] }, ch_planned, strategies)

    emit:
    done      = ch_whole.mix(OWN_VECTORS.out.encodings).toList().map { _vectors -> true } // channel: val(true), once every encoder has ended
    encodings = ch_derived.filter { encoding -> !encoding.name.endsWith('.atlas.h5ad') }.mix(OWN_VECTORS.out.encodings.flatMap { _meta, files -> files instanceof List ? files : [files] }) // channel: path(dataset.encoder.strategy.h5ad)
    atlas     = ch_derived.filter { encoding -> encoding.name.endsWith('.atlas.h5ad') } // channel: path(dataset.encoder.strategy.atlas.h5ad)
}
