//
// ENCODE: perturbations -> one vector per perturbation, encoder and strategy; each encoder runs once over all datasets
//

include { CONTROLS_ENCODE  } from '../../../modules/local/controls/main'
include { DERIVE           } from '../../../modules/local/derive/main'
include { ESM2_ENCODE      } from '../../../modules/local/esm2/main'
include { catalogue        } from '../utils_variantcellbench/parameters'
include { codeDigest       } from '../utils_variantcellbench/code'

// Digest of the encoder step and of the encoders' own files
def encoderCode(names) {
    return codeDigest(['vcb_encode.py'] + names.collect { name -> "vcbench/encoders/${name}.py".toString() })
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
    encoders         // value: list of encoder names
    strategies       // value: list of strategy names

    main:
    def entries = catalogue('encoders').entries
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
    ch_control_settings = ch_json.map { settings -> settingsOf(controls, settings) }
    ch_plm_settings = ch_json.map { settings -> settingsOf(plms, settings) }

    CONTROLS_ENCODE(
        channel.of([id: 'controls', encoders: controls])
            .filter { meta -> meta.encoders }
            .combine(ch_proteome),
        ch_control_settings,
        assets,
        encoderCode(controls),
    )
    ESM2_ENCODE(
        channel.fromList(plms)
            .filter { name -> entries[name].process == 'ESM2_ENCODE' }
            .map { name -> [id: name, encoders: [name]] }
            .combine(ch_proteome)
            .map { meta, tables, files -> [meta, tables, files, file("${params.weights}/${entries[meta.id].weights.folder}")] },
        ch_plm_settings,
        assets,
        encoderCode(plms.findAll { name -> entries[name].process == 'ESM2_ENCODE' }),
    )

    // channel: [ val(meta), val([dataset.encoder.strategy, ...]), path([vectors, ...]), path([perturbations, ...]) ]
    ch_planned = ch_units
        .map { unit -> [unit.dataset, unit.encoder, unit.strategy] }
        .filter { _dataset, encoder, _strategy -> encoder != 'none' }
        .unique()
        .toSortedList { left, right -> left.join('.') <=> right.join('.') }
        .map { planned -> [planned] }
    ch_vectors = CONTROLS_ENCODE.out.vectors
        .mix(ESM2_ENCODE.out.vectors)
        .combine(ch_planned)
        .map { meta, vectors, planned ->
            def own = planned.findAll { item -> item[1] in meta.encoders || (item[1] == 'shuffled' && meta.id == 'controls') }
            [meta + [strategies: strategies, shuffled_base: shuffled_base], own.collect { item -> item.join('.') }, vectors]
        }
        .combine(ch_proteome.map { tables, _files -> [tables] })
    DERIVE(ch_vectors, codeDigest(['vcb_derive.py']))

    emit:
    done      = CONTROLS_ENCODE.out.vectors.mix(ESM2_ENCODE.out.vectors).toList().map { _vectors -> true } // channel: val(true), once every encoder has ended
    encodings = DERIVE.out.encodings.flatMap { _meta, files -> files instanceof List ? files : [files] } // channel: path(dataset.encoder.strategy.h5ad)
}
