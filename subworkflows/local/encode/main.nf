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

// Settings of some encoders as one JSON object {encoder: {setting: value}}
def settingsOf(names, settings) {
    return '{' + names.findAll { name -> name in settings }.collect { name -> "\"${name}\": ${settings[name]}" }.join(', ') + '}'
}

workflow ENCODE {
    take:
    ch_perturbations // channel: path(perturbations)
    ch_proteins      // channel: path(fasta)
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

    def assets = [file("${projectDir}/assets/encoders.yml")]
    ch_json = ch_settings.toList().map { rows -> rows.collectEntries { row -> [row.encoder, row.settings] } }

    CONTROLS_ENCODE(
        channel.of([id: 'controls', encoders: controls, process: 'CONTROLS_ENCODE'])
            .filter { meta -> meta.encoders }
            .combine(ch_proteome),
        ch_json.map { settings -> settingsOf(controls, settings) },
        assets,
        controlsCode(controls),
    )

    // channel: [ val(encoder), val(settings), val([key, ...]) ]; none when no dataset has variants
    REQUESTS(ch_proteome.filter { networks }, codeDigest(['vcb_requests.py']))
    ch_wanted = REQUESTS.out.requests
        .map { table -> [table.splitCsv(header: true, sep: '\t').findAll { row -> row.kind == 'variant' }.collect { row -> row.key }] }
        .filter { keys -> keys[0] }
        .combine(ch_json)
        .flatMap { keys, settings -> networks.collect { name -> [name, new groovy.json.JsonSlurper().parseText(settings[name]), keys] } }
    CONVERT_WEIGHTS(ch_wanted.map { name, settings, _keys -> conversion(name, settings) }, assets)

    ch_placed = ch_wanted
        .join(CONVERT_WEIGHTS.out.weights.map { meta, weights -> [meta.id, weights] })
        .map { name, settings, keys, weights -> placed(name, settings, weights, keys) }
    ch_new = ch_placed
        .filter { placement -> placement[0].shard }
        .combine(ch_proteome)
        .map { meta, settings, code, weights, shards, tables, files ->
            [meta, settings, code, tables, files, weights, shards.collect { shard -> shard.list }, entries[meta.id].inputs == 'msas' && params.msas ? file(params.msas) : []]
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
    ch_vectors = ch_whole
        .combine(ch_planned)
        .map { meta, vectors, lists, planned ->
            def own = planned.findAll { item -> item[1] in meta.encoders || (item[1] == 'shuffled' && meta.id == 'controls') }
            [meta + [strategies: strategies, shuffled_base: shuffled_base], own.collect { item -> item.join('.') }, vectors, lists]
        }
        .combine(ch_proteome.map { tables, _files -> [tables] })
    DERIVE(ch_vectors, codeDigest(['vcb_derive.py']))
    OWN_VECTORS(ch_proteome.map { tables, _files -> [tables] }, ch_planned, strategies)

    emit:
    done      = ch_whole.mix(OWN_VECTORS.out.encodings).toList().map { _vectors -> true } // channel: val(true), once every encoder has ended
    encodings = DERIVE.out.encodings.mix(OWN_VECTORS.out.encodings).flatMap { _meta, files -> files instanceof List ? files : [files] } // channel: path(dataset.encoder.strategy.h5ad)
}
