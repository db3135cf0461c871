//
// PREPARE: samplesheet rows -> canonical datasets, perturbation tables and splits
//

include { PREPARE          } from '../../../modules/local/prepare/main'
include { SPLIT            } from '../../../modules/local/split/main'
include { SUBSTITUTIONS    } from '../../../modules/local/substitutions/main'
include { codeDigest       } from '../utils_variantcellbench/code'

// File of a samplesheet cell: a URL, an absolute path, or relative to the samplesheet; an empty list for an empty cell
def datasetFile(row, column, samplesheet) {
    def text = row[column]
    if (!text) {
        return []
    }
    return text =~ '^([a-z0-9]+://|/)' ? file(text) : samplesheet.parent.resolve(text)
}

// Annotations tables of a samplesheet, one per dataset that has any; none for files that are not there
def annotationTables(samplesheet) {
    // an empty or missing samplesheet is said by PLAN
    def rows = samplesheet.isFile() && samplesheet.text.trim() ? samplesheet.splitCsv(header: true, strip: true, quote: '"') : []
    return rows
        .collect { row -> datasetFile(row, 'annotations', samplesheet) }
        .findAll { table -> table && table.exists() }
}

// Columns of a row whose file does not exist, as "column: file not found | path"
def absentFiles(row, samplesheet) {
    return ['h5ad', 'proteins', 'annotations']
        .collect { column -> [column, datasetFile(row, column, samplesheet)] }
        .findAll { _column, found -> found && !found.exists() }
        .collect { column, found -> "column ${column}: file not found | ${found}" }
}

workflow PREPARE_DATASETS {
    take:
    ch_samplesheet // channel: path(samplesheet.csv)
    ch_datasets    // channel: map, one row of datasets.tsv
    ch_units       // channel: map, one row of plan.tsv

    main:
    def facts = ['perturbation_type', 'perturbation_column', 'control_labels', 'gene', 'isoform', 'cell_line', 'modality', 'batch_column', 'counts_layer', 'mask_genes', 'gene_column']

    ch_input = ch_datasets
        .combine(ch_samplesheet)
        .map { row, samplesheet ->
            def absent = absentFiles(row, samplesheet)
            if (absent) {
                // called here and not in a function: the engine shows only errors raised in the closure itself
                error("vcb: error: ${samplesheet.name}, dataset ${row.dataset}, ${absent.first()}")
            }
            [
                [id: row.dataset],
                row.findAll { name, value -> name in facts && value },
                datasetFile(row, 'h5ad', samplesheet),
                datasetFile(row, 'proteins', samplesheet),
                datasetFile(row, 'annotations', samplesheet),
            ]
        }
    PREPARE(ch_input, codeDigest(['vcb_prepare.py']))

    // splits planned for each dataset: [ val(dataset), val([split, ...]) ]
    ch_splits = ch_units
        .map { unit -> [unit.dataset, unit.split] }
        .unique()
        .groupTuple()
        .map { dataset, splits -> [dataset, splits.toSorted()] }
    SPLIT(
        PREPARE.out.perturbations
            .map { meta, perturbations -> [meta.id, meta, perturbations] }
            .join(ch_splits, failOnDuplicate: true)
            .map { _dataset, meta, perturbations, splits -> [meta, splits, perturbations] },
        codeDigest(['vcb_split.py']),
    )

    // all substitutions of the proteins of datasets with an atlas
    SUBSTITUTIONS(
        PREPARE.out.perturbations
            .join(PREPARE.out.proteins)
            .map { meta, perturbations, proteins -> [meta.id, meta, perturbations, proteins] }
            .join(ch_input.map { meta, _facts, _h5ad, _proteins, annotations -> [meta.id, annotations] })
            .join(ch_units.filter { unit -> unit.atlas }.map { unit -> [unit.dataset] }.unique())
            .map { _dataset, meta, perturbations, proteins, annotations -> [meta, perturbations, proteins, annotations] },
        codeDigest(['vcb_substitutions.py']),
    )

    emit:
    substitutions = SUBSTITUTIONS.out.substitutions // channel: path(substitutions), none without --saturation
    datasets      = PREPARE.out.dataset.join(PREPARE.out.perturbations) // channel: [ val(meta), path(h5ad), path(perturbations) ]
    perturbations = PREPARE.out.perturbations.map { _meta, table -> table } // channel: path(perturbations)
    proteins      = PREPARE.out.proteins.map { _meta, fasta -> fasta } // channel: path(fasta)
    folds         = SPLIT.out.folds.transpose() // channel: [ val(meta), path(folds) ]
    quality       = PREPARE.out.quality.map { _meta, table -> table } // channel: path(quality)
    leakage       = SPLIT.out.leakage.map { _meta, table -> table } // channel: path(leakage)
}
